//! Listpacks: what is accepted can be walked both ways and edited, and stays sound.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redrock_rdb::listpack::ListPack;

fuzz_target!(|input: (u8, &[u8], &[u8])| {
    let (at, element, bytes) = input;
    let Ok(mut listpack) = ListPack::from_bytes(bytes.to_vec()) else {
        return;
    };
    let forwards: Vec<Vec<u8>> = listpack.iter().map(|value| value.to_vec()).collect();
    assert_eq!(forwards.len(), listpack.len());
    let mut backwards = Vec::new();
    let mut position = listpack.last();
    while let Some(pos) = position {
        backwards.push(listpack.value(pos).to_vec());
        position = listpack.prev(pos);
    }
    backwards.reverse();
    assert_eq!(forwards, backwards);
    if !listpack.safe_to_add(element.len()) {
        return;
    }
    let mut model = forwards;
    match listpack.seek(i64::from(at)) {
        Some(pos) => {
            listpack.replace(pos, element);
            model[usize::from(at)] = element.to_vec();
        }
        None => {
            listpack.push_back(element);
            model.push(element.to_vec());
        }
    }
    let Ok(edited) = ListPack::from_bytes(listpack.into_bytes()) else {
        panic!("an edit made it unsound");
    };
    let found: Vec<Vec<u8>> = edited.iter().map(|value| value.to_vec()).collect();
    assert_eq!(found, model);
});
