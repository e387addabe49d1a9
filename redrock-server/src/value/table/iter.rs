//! Walking through a whole table.

use super::bucket::Bucket;

/// See [`Table::iter`].
#[derive(Debug)]
pub struct Iter<'a, T> {
    pub(super) segments: std::slice::Iter<'a, Vec<Bucket<T>>>,
    pub(super) buckets: std::slice::Iter<'a, Bucket<T>>,
    pub(super) bucket: Option<&'a Bucket<T>>,
    pub(super) slot: usize,
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        loop {
            if let Some(bucket) = self.bucket {
                if self.slot < usize::from(bucket.count) {
                    let element = bucket.slots.get(self.slot)?.as_ref();
                    self.slot += 1;
                    return element;
                }
                self.slot = 0;
                self.bucket = bucket.next.as_deref();
            } else if let Some(bucket) = self.buckets.next() {
                self.bucket = Some(bucket);
            } else {
                self.buckets = self.segments.next()?.iter();
            }
        }
    }
}
