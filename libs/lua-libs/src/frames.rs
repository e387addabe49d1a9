//! What a walk over nested values has open, instead of a function that calls itself: nesting up to
//! Lua's limit of stack slots must not depend on the size of a thread's own stack.

use crate::stack::SLOTS_MAX;
use std::mem::MaybeUninit;

/// Each level takes at least one slot of Lua's stack.
const LEVELS_MAX: usize = SLOTS_MAX as usize;

/// The levels that are open, the innermost last.
pub(crate) struct Frames<T: Copy> {
    levels: [MaybeUninit<T>; LEVELS_MAX],
    depth: usize,
}

impl<T: Copy> Frames<T> {
    #[inline]
    pub(crate) fn new() -> Self {
        Self {
            levels: [const { MaybeUninit::uninit() }; LEVELS_MAX],
            depth: 0,
        }
    }

    /// How many are open.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// Opens a level; says no when there are too many, which Lua's own limit forestalls.
    pub(crate) fn push(&mut self, level: T) -> bool {
        let Some(place) = self.levels.get_mut(self.depth) else {
            return false;
        };
        place.write(level);
        self.depth += 1;
        true
    }

    pub(crate) fn pop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// The innermost.
    pub(crate) fn last(&mut self) -> Option<&mut T> {
        let place = self.levels.get_mut(self.depth.checked_sub(1)?)?;
        // SAFETY: `push` wrote all levels below `depth`.
        Some(unsafe { place.assume_init_mut() })
    }
}

#[cfg(test)]
mod tests {
    use super::{Frames, LEVELS_MAX};

    #[test]
    fn levels_are_bounded() {
        let mut frames = Frames::new();
        assert!(frames.last().is_none());
        for level in 0..LEVELS_MAX {
            assert!(frames.push(level));
        }
        assert!(!frames.push(0));
        assert_eq!(frames.last(), Some(&mut (LEVELS_MAX - 1)));
        frames.pop();
        assert_eq!(frames.last(), Some(&mut (LEVELS_MAX - 2)));
        assert_eq!(frames.depth(), LEVELS_MAX - 1);
    }
}
