//! Lists to and from RDB object encoding (I3).

use super::{Body, End, Fill, List, QuickList, Repr};
use crate::value::Limits;
use redrock_rdb::object::{ListNode, ListNodeRef, encode, types};

impl List {
    /// Appends the payload of `LIST_QUICKLIST_2` and returns that type.
    pub fn encode(&self, out: &mut Vec<u8>) -> u8 {
        match &self.repr {
            Repr::Pack(pack) => {
                encode::list(
                    out,
                    1,
                    std::iter::once(ListNodeRef::Packed(pack.as_bytes())),
                );
            }
            Repr::Quick(quick) => {
                let nodes = quick.nodes().iter().map(|node| match node.body() {
                    Body::Pack(pack) => ListNodeRef::Packed(pack.as_bytes()),
                    Body::Plain(bytes) => ListNodeRef::Plain(bytes),
                });
                encode::list(out, quick.nodes().len(), nodes);
            }
        }
        types::LIST_QUICKLIST_2
    }

    /// The list of decoded nodes. They stay as they are, whatever the options say now; what fits
    /// becomes a listpack. The decoder has refused lists without elements.
    pub fn from_rdb(nodes: Vec<ListNode>, limits: &Limits) -> Self {
        let mut quick = QuickList::default();
        for node in nodes {
            match node {
                ListNode::Packed(pack) => quick.push_pack(pack),
                ListNode::Plain(bytes) => quick.push_plain(bytes.into_boxed_slice()),
            }
        }
        Self::settled(quick, Fill::new(limits))
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
            .for_each(|element| quick.push(End::Tail, element, fill));
        Self::settled(quick, fill)
    }

    fn settled(quick: QuickList, fill: Fill) -> Self {
        let mut list = Self {
            repr: Repr::Quick(Box::new(quick)),
        };
        list.settle(fill, false);
        list
    }
}
