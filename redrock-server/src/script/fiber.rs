//! A command that may run a script has a stack of its own on its worker's thread.
//!
//! That costs some ten nanoseconds, and lets a script that runs for too long stand aside
//! ([`pause`], called from Lua's hook) while the worker serves its other connections: they are told
//! `-BUSY`. The keyspace stays held meanwhile. The connection whose command it is resumes it
//! ([`resume`]) between other work until it has ended. See docs/adr.
//!
//! Invariants:
//! - a fiber is never moved to another thread and never dropped before its end: Lua's C frames are on
//!   its stack;
//! - at most one is paused on a thread, because it holds the keyspace.

use crate::command::dispatch::Outcome;
use crate::command::dispatch::scripts::Work;
use crate::keyspace::locks;
use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use std::cell::{Cell, RefCell};

/// Lua nests at most 200 C calls, each with a buffer of 8 KiB at worst; commands need far less than
/// a thread's usual 2 MiB. Only what is touched takes memory.
const STACK_BYTES: usize = 8 << 20;

/// A fiber's end.
pub struct Finished {
    /// What became of the command.
    pub outcome: Outcome,
    /// What it ran with.
    pub work: Box<Work>,
}

type Fiber = Coroutine<(), (), Finished>;

/// Where a fiber is after it was started or resumed.
pub enum State {
    /// At its end.
    Finished(Box<Finished>),
    /// Paused: [`resume`] it.
    Paused,
}

enum Slot {
    Paused(Fiber),
    Finished(Box<Finished>),
}

thread_local! {
    /// The running fiber's way back; null outside of fibers.
    static YIELDER: Cell<*const Yielder<(), ()>> = const { Cell::new(std::ptr::null()) };
    static SLOT: RefCell<Option<Slot>> = const { RefCell::new(None) };
    /// The stack of the last fiber, for the next.
    static STACK: RefCell<Option<DefaultStack>> = const { RefCell::new(None) };
}

/// Whether the calling code runs in a fiber.
pub fn is_inside() -> bool {
    !YIELDER.get().is_null()
}

/// Runs `run` over `work` in a fiber up to its end or its first pause. Gives the work back if there
/// is no memory for a stack.
pub fn start(work: Box<Work>, run: fn(&mut Work) -> Outcome) -> Result<State, Box<Work>> {
    let stack = STACK.with_borrow_mut(Option::take);
    let Some(stack) = stack.or_else(|| DefaultStack::new(STACK_BYTES).ok()) else {
        return Err(work);
    };
    let fiber = Fiber::with_stack(stack, move |yielder, ()| {
        YIELDER.set(yielder);
        let mut work = work;
        let outcome = run(&mut work);
        YIELDER.set(std::ptr::null());
        Finished { outcome, work }
    });
    Ok(go_on(fiber))
}

fn go_on(mut fiber: Fiber) -> State {
    locks::set_paused(None);
    match fiber.resume(()) {
        CoroutineResult::Return(finished) => {
            STACK.set(Some(fiber.into_stack()));
            State::Finished(Box::new(finished))
        }
        CoroutineResult::Yield(()) => {
            SLOT.set(Some(Slot::Paused(fiber)));
            locks::set_paused(Some(finish));
            State::Paused
        }
    }
}

/// Goes on with this thread's paused fiber up to its end or its next pause.
pub fn resume() -> State {
    match SLOT.take() {
        Some(Slot::Paused(fiber)) => go_on(fiber),
        Some(Slot::Finished(finished)) => State::Finished(finished),
        // Only who was told that it is paused asks, and once.
        None => State::Paused,
    }
}

/// Runs this thread's paused fiber to its end: somebody on this thread waits for the keyspace.
fn finish() {
    tracing::warn!("a busy script is run to its end: something else needs the data");
    loop {
        if let State::Finished(finished) = resume() {
            SLOT.set(Some(Slot::Finished(finished)));
            return;
        }
    }
}

/// Runs what is paused on this thread to its end; the thread is about to end too.
pub fn end_paused() {
    while locks::is_paused_here() {
        if let State::Finished(_) = resume() {
            return;
        }
    }
}

/// Runs what may run a script outside of a fiber, on a stack of the same size: a thread that replays
/// a stream has a smaller one. Nothing pauses meanwhile.
pub fn on_large_stack<R>(work: impl FnOnce() -> R) -> R {
    if is_inside() {
        return work();
    }
    let stack = STACK.with_borrow_mut(Option::take);
    let Some(mut stack) = stack.or_else(|| DefaultStack::new(STACK_BYTES).ok()) else {
        return work();
    };
    let result = corosensei::on_stack(&mut stack, work);
    STACK.set(Some(stack));
    result
}

/// Stands aside: the thread does something else, then comes back. Nothing outside of fibers.
pub fn pause() {
    let yielder = YIELDER.get();
    if yielder.is_null() {
        return;
    }
    YIELDER.set(std::ptr::null());
    // SAFETY: `start` set it in the fiber that runs now; it lives on that fiber's stack until its end,
    // where it is reset.
    unsafe { &*yielder }.suspend(());
    YIELDER.set(yielder);
}
