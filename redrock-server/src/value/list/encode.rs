//! Lists to and from RDB object encoding (I3).

use super::{Body, Fill, List, QuickList, Repr};
use crate::value::Limits;
use redrock_rdb::listpack::ListPack;

/// RDB type `LIST_QUICKLIST_2`: nodes, each marked as a listpack or a plain element.
const RDB_TYPE_LIST_QUICKLIST_2: u8 = 18;

/// Node containers.
const PLAIN: u64 = 1;
const PACKED: u64 = 2;

/// What a decoder finds: the parts of which any historic list encoding consists.
#[derive(Debug)]
pub enum Part {
    /// A node's listpack, checked.
    Pack(ListPack),
    /// A plain node's element.
    Plain(Box<[u8]>),
    /// A single element (type `LIST`).
    Element(Vec<u8>),
}

impl List {
    /// Appends the payload of `LIST_QUICKLIST_2` and returns that type.
    pub fn encode(&self, out: &mut Vec<u8>) -> u8 {
        match &self.repr {
            Repr::Pack(pack) => {
                put_len(out, 1);
                put_node(out, PACKED, pack.as_bytes());
            }
            Repr::Quick(quick) => {
                put_len(out, quick.nodes().len() as u64);
                for node in quick.nodes() {
                    match node.body() {
                        Body::Pack(pack) => put_node(out, PACKED, pack.as_bytes()),
                        Body::Plain(bytes) => put_node(out, PLAIN, bytes),
                    }
                }
            }
        }
        RDB_TYPE_LIST_QUICKLIST_2
    }

    /// The list of what was decoded. Nodes stay as they are, single elements fill nodes as the
    /// options say; what fits becomes a listpack. Callers refuse an empty result.
    pub fn from_parts(parts: impl IntoIterator<Item = Part>, limits: &Limits) -> Self {
        let fill = Fill::new(limits);
        let mut quick = QuickList::default();
        for part in parts {
            match part {
                Part::Pack(pack) => quick.push_pack(pack),
                Part::Plain(bytes) => quick.push_plain(bytes),
                Part::Element(bytes) => quick.push(super::End::Tail, &bytes, fill),
            }
        }
        let mut list = Self {
            repr: Repr::Quick(Box::new(quick)),
        };
        list.settle(fill, false);
        list
    }

    /// A list built in one go (`SORT ... STORE`), in the best encoding for what it holds.
    pub fn from_elements<'a>(
        elements: impl IntoIterator<Item = &'a [u8]>,
        limits: &Limits,
    ) -> Self {
        let fill = Fill::new(limits);
        let mut quick = QuickList::default();
        elements
            .into_iter()
            .for_each(|element| quick.push(super::End::Tail, element, fill));
        let mut list = Self {
            repr: Repr::Quick(Box::new(quick)),
        };
        list.settle(fill, false);
        list
    }
}

fn put_node(out: &mut Vec<u8>, container: u64, bytes: &[u8]) {
    put_len(out, container);
    put_len(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// An RDB length: 6, 14, 32 or 64 bits.
fn put_len(out: &mut Vec<u8>, len: u64) {
    match len {
        0..=0x3f => out.push(len as u8),
        0x40..=0x3fff => out.extend_from_slice(&(0x4000 | len as u16).to_be_bytes()),
        0x4000..=0xffff_ffff => {
            out.push(0x80);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
        _ => {
            out.push(0x81);
            out.extend_from_slice(&len.to_be_bytes());
        }
    }
}
