//! Who waits for one key, first come first.
//!
//! Who comes, who goes and who is next is told without a walk over the queue: a push that serves one of
//! thousands must not look at the others.

use crate::value::ObjectType;
use std::collections::BTreeMap;

/// A client's place in the order of arrival, the same in all its queues.
pub(super) type Ticket = u64;

/// Types of values.
const TYPES: usize = ObjectType::Stream as usize + 1;

/// One client in the queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The client.
    pub(super) client: u64,
    /// The type of value that serves it.
    pub(super) wants: ObjectType,
    /// It also wants to know when what is there goes.
    pub(super) or_gone: bool,
}

impl Place {
    /// Whether it is concerned by a key that holds a value of this type, or nothing, or (`None`) what
    /// only the disk knows.
    fn is_concerned(&self, found: Option<Option<ObjectType>>) -> bool {
        self.or_gone || found.is_none_or(|found| found == Some(self.wants))
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue {
    places: BTreeMap<Ticket, Place>,
    /// How many want each type.
    by_type: [usize; TYPES],
    or_gone: usize,
}

impl Queue {
    /// Adds a client; nothing if it is there.
    pub(super) fn insert(&mut self, ticket: Ticket, place: Place) {
        if self.places.insert(ticket, place).is_none() {
            self.by_type[place.wants as usize] += 1;
            self.or_gone += usize::from(place.or_gone);
        }
    }

    /// Takes a client out.
    pub(super) fn remove(&mut self, ticket: Ticket) {
        if let Some(place) = self.places.remove(&ticket) {
            self.by_type[place.wants as usize] -= 1;
            self.or_gone -= usize::from(place.or_gone);
        }
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether somebody wants to know when the key goes.
    pub(super) fn has_or_gone(&self) -> bool {
        self.or_gone > 0
    }

    /// The last ticket.
    pub(super) fn last(&self) -> Option<Ticket> {
        self.places.last_key_value().map(|(ticket, _)| *ticket)
    }

    /// The clients, first come first.
    pub(super) fn clients(&self) -> impl Iterator<Item = u64> {
        self.places.values().map(|place| place.client)
    }

    /// The first of those tickets that runs again, and whose it is; `found` as for a place.
    pub(super) fn next_concerned(
        &self,
        tickets: std::ops::RangeInclusive<Ticket>,
        found: Option<Option<ObjectType>>,
    ) -> Option<(Ticket, u64)> {
        let nobody = found.is_some_and(|found| {
            self.or_gone == 0 && found.is_none_or(|found| self.by_type[found as usize] == 0)
        });
        if nobody || tickets.is_empty() {
            return None;
        }
        let mut places = self.places.range(tickets);
        let (ticket, place) = places.find(|(_, place)| place.is_concerned(found))?;
        Some((*ticket, place.client))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(client: u64, wants: ObjectType, or_gone: bool) -> Place {
        Place {
            client,
            wants,
            or_gone,
        }
    }

    #[test]
    fn the_first_who_is_concerned_is_next_and_nobody_is_sought_in_vain() {
        let mut queue = Queue::default();
        for (ticket, wants) in [
            (1, ObjectType::ZSet),
            (2, ObjectType::List),
            (3, ObjectType::List),
        ] {
            queue.insert(ticket, place(10 * ticket, wants, false));
            queue.insert(ticket, place(10 * ticket, wants, false));
        }
        let list = Some(Some(ObjectType::List));
        assert_eq!(queue.next_concerned(0..=3, list), Some((2, 20)));
        assert_eq!(queue.next_concerned(3..=3, list), Some((3, 30)));
        assert_eq!(queue.next_concerned(4..=4, list), None);
        assert_eq!(queue.next_concerned(0..=3, None), Some((1, 10)));
        assert_eq!(queue.next_concerned(0..=3, Some(None)), None);
        queue.insert(4, place(40, ObjectType::Stream, true));
        assert_eq!(queue.next_concerned(0..=4, Some(None)), Some((4, 40)));
        for ticket in 2..=4 {
            queue.remove(ticket);
            queue.remove(ticket);
        }
        assert_eq!(queue.next_concerned(0..=4, list), None);
        assert!(!queue.has_or_gone() && !queue.is_empty());
        assert_eq!(queue.clients().collect::<Vec<_>>(), [10]);
    }
}
