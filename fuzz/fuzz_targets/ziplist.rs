//! Ziplists, zipmaps and intsets of old files: an error, or elements that a listpack can hold.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redrock_rdb::intset::IntSetRef;
use redrock_rdb::ziplist::ZipList;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(ziplist) = ZipList::from_bytes(bytes) {
        let elements = ziplist.iter().count();
        assert_eq!(elements, ziplist.len());
        assert_eq!(ziplist.to_listpack().len(), elements);
    }
    if let Ok(intset) = IntSetRef::from_bytes(bytes) {
        let members: Vec<i64> = intset.iter().collect();
        assert!(members.is_sorted_by(|a, b| a < b));
        assert!(members.iter().all(|member| intset.contains(*member)));
    }
});
