//! LZF: no input makes more than was asked for, and what we compress comes back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redrock_rdb::lzf;

fuzz_target!(|input: (u16, &[u8])| {
    let (len, bytes) = input;
    let len = usize::from(len);
    if let Ok(plain) = lzf::decompress(bytes, len) {
        assert_eq!(plain.len(), len);
    }
    if let Some(compressed) = lzf::compress(bytes, bytes.len()) {
        let plain = lzf::decompress(&compressed, bytes.len());
        assert_eq!(plain.as_deref().ok(), Some(bytes));
    }
});
