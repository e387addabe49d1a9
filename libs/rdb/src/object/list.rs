//! Lists: nodes of listpacks, as Redis's quicklist.

use super::encode::ListNodeRef;
use crate::listpack::ListPack;

/// Listpack nodes built here stay within this size (Redis's default
/// `list-max-listpack-size -2`), unless a single element is larger.
pub const LIST_NODE_BYTES_MAX: usize = 8192;

/// Elements from this size on are nodes of their own (Redis
/// `packed_threshold`).
const PLAIN_BYTES_MIN: usize = 1 << 30;

/// A node of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListNode {
    /// One large element.
    Plain(Vec<u8>),
    /// Elements.
    Packed(ListPack),
}

impl ListNode {
    /// The node's bytes, borrowed.
    pub fn as_node_ref(&self) -> ListNodeRef<'_> {
        match self {
            Self::Plain(element) => ListNodeRef::Plain(element),
            Self::Packed(listpack) => ListNodeRef::Packed(listpack.as_bytes()),
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::Plain(_) => 1,
            Self::Packed(listpack) => listpack.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Packs single elements into nodes.
#[derive(Debug, Default)]
pub struct ListBuilder {
    nodes: Vec<ListNode>,
    open: ListPack,
}

impl ListBuilder {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `element` at the tail.
    pub fn push(&mut self, element: &[u8]) {
        if element.len() >= PLAIN_BYTES_MIN {
            self.close_node();
            self.nodes.push(ListNode::Plain(element.to_vec()));
            return;
        }
        if self.open.byte_len() + ListPack::entry_bytes(element) > LIST_NODE_BYTES_MAX {
            self.close_node();
        }
        self.open.push_back(element);
    }

    /// The nodes.
    pub fn finish(mut self) -> Vec<ListNode> {
        self.close_node();
        self.nodes
    }

    fn close_node(&mut self) {
        if !self.open.is_empty() {
            let mut full = std::mem::take(&mut self.open);
            full.shrink_to_fit();
            self.nodes.push(ListNode::Packed(full));
        }
    }
}
