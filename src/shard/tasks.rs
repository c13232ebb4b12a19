//! The tasks of one shard and the list of those that are ready: no spawn of glommio's is on the
//! request path.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use super::waker::{SLOTS_MAX, TaskKey};

pub(super) type Boxed = Pin<Box<dyn Future<Output = ()>>>;

/// A slab of futures and their ready list, polled by whoever turns the shard.
pub(crate) struct Tasks {
    shard: u16,
    slab: RefCell<Slab<Task>>,
    ready: RefCell<VecDeque<TaskKey>>,
    generation: Cell<u32>,
    /// What the task that is being polled goes on as, once it has ended.
    successor: RefCell<Option<Boxed>>,
    /// Those who wait for a task's end. Few: they are searched when a task ends.
    watchers: RefCell<Slab<(TaskKey, Waker)>>,
}

struct Task {
    key: TaskKey,
    queued: bool,
    /// Empty while it is polled.
    future: Option<Boxed>,
}

/// How a poll went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Polled {
    Pending,
    Done,
    Panicked,
    /// It had ended before.
    Gone,
}

impl Tasks {
    pub(crate) fn new(shard: u16) -> Tasks {
        Tasks {
            shard,
            slab: RefCell::default(),
            ready: RefCell::default(),
            generation: Cell::new(0),
            successor: RefCell::default(),
            watchers: RefCell::default(),
        }
    }

    #[inline]
    pub(crate) fn shard(&self) -> u16 {
        self.shard
    }

    /// Adds a task; it is ready at once.
    pub(crate) fn spawn(&self, future: Boxed) -> TaskKey {
        let mut slab = self.slab.borrow_mut();
        let entry = slab.vacant_entry();
        assert!(entry.key() < SLOTS_MAX as usize, "more than 16 million tasks on one shard");
        self.generation.set(self.generation.get().wrapping_add(1));
        let key = TaskKey::new(self.shard, self.generation.get(), entry.key() as u32);
        entry.insert(Task { key, queued: true, future: Some(future) });
        self.ready.borrow_mut().push_back(key);
        key
    }

    /// Makes the task that is being polled go on as another future once it ends, with the same key:
    /// a long life need not hold the memory of its beginning.
    pub(crate) fn go_on_as(&self, future: Boxed) {
        *self.successor.borrow_mut() = Some(future);
    }

    /// Puts a task on the ready list, once; nothing if it has ended.
    #[inline]
    pub(crate) fn wake(&self, key: TaskKey) {
        if let Some(task) = self.slab.borrow_mut().get_mut(key.slot())
            && task.key == key
            && !task.queued
        {
            task.queued = true;
            self.ready.borrow_mut().push_back(key);
        }
    }

    /// Wakes every task: what is left when single wakes could not be kept.
    pub(crate) fn wake_all(&self) {
        let keys: Vec<TaskKey> = self.slab.borrow().iter().map(|(_, task)| task.key).collect();
        keys.into_iter().for_each(|key| self.wake(key));
    }

    #[inline]
    pub(crate) fn ready_len(&self) -> usize {
        self.ready.borrow().len()
    }

    /// Takes the next ready task off the list.
    #[inline]
    pub(crate) fn next_ready(&self) -> Option<TaskKey> {
        self.ready.borrow_mut().pop_front()
    }

    /// Polls a task. One that panics is dropped, and the shard lives on.
    #[inline]
    pub(crate) fn poll(&self, key: TaskKey) -> Polled {
        let taken = self.slab.borrow_mut().get_mut(key.slot()).and_then(|task| {
            if task.key != key {
                return None;
            }
            task.queued = false;
            task.future.take()
        });
        let Some(mut future) = taken else { return Polled::Gone };
        let waker = key.waker();
        let mut cx = Context::from_waker(&waker);
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx).is_pending()));
        match polled {
            Ok(true) => {
                let mut kept = Some(future);
                if let Some(task) = self.slab.borrow_mut().get_mut(key.slot())
                    && task.key == key
                {
                    task.future = kept.take();
                }
                // Aborted while it was polled: dropped here, outside the borrow.
                drop_quietly(kept);
                Polled::Pending
            }
            Ok(false) => {
                if let Some(next) = self.successor.take() {
                    drop_quietly(Some(future));
                    return self.follow(key, next);
                }
                self.abort(key);
                drop_quietly(Some(future));
                Polled::Done
            }
            Err(_) => {
                drop_quietly(self.successor.take());
                self.abort(key);
                drop_quietly(Some(future));
                Polled::Panicked
            }
        }
    }

    #[cold]
    fn follow(&self, key: TaskKey, next: Boxed) -> Polled {
        let mut next = Some(next);
        if let Some(task) = self.slab.borrow_mut().get_mut(key.slot())
            && task.key == key
        {
            task.future = next.take();
        }
        drop_quietly(next);
        self.wake(key);
        Polled::Pending
    }

    /// Drops a task wherever it stands.
    pub(crate) fn abort(&self, key: TaskKey) {
        let removed = {
            let mut slab = self.slab.borrow_mut();
            match slab.get(key.slot()) {
                Some(task) if task.key == key => slab.remove(key.slot()).future,
                _ => return,
            }
        };
        drop_quietly(removed);
        if !self.watchers.borrow().is_empty() {
            self.tell_watchers(key);
        }
    }

    /// Wakes `waker` when the task has ended. The place is given back by `unwatch`, and taken
    /// again where there is one already.
    pub(crate) fn watch(&self, key: TaskKey, waker: &Waker, place: Option<usize>) -> usize {
        let mut watchers = self.watchers.borrow_mut();
        match place {
            Some(place) if watchers.contains(place) => {
                watchers[place].1.clone_from(waker);
                place
            }
            _ => watchers.insert((key, waker.clone())),
        }
    }

    pub(crate) fn unwatch(&self, place: usize) {
        self.watchers.borrow_mut().try_remove(place);
    }

    #[cold]
    fn tell_watchers(&self, key: TaskKey) {
        let watchers = self.watchers.borrow();
        let told = watchers.iter().filter(|(_, (watched, _))| *watched == key);
        let told: Vec<Waker> = told.map(|(_, (_, waker))| waker.clone()).collect();
        drop(watchers);
        told.into_iter().for_each(|waker| waker.wake());
    }

    /// Drops every task.
    pub(crate) fn clear(&self) -> usize {
        let keys: Vec<TaskKey> = self.slab.borrow().iter().map(|(_, task)| task.key).collect();
        keys.iter().for_each(|key| self.abort(*key));
        self.ready.borrow_mut().clear();
        keys.len()
    }

    pub(crate) fn is_alive(&self, key: TaskKey) -> bool {
        self.slab.borrow().get(key.slot()).is_some_and(|task| task.key == key)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.slab.borrow().len()
    }
}

/// A future's drop may panic too; that must not take the shard with it.
fn drop_quietly(future: Option<Boxed>) {
    if let Some(future) = future
        && catch_unwind(AssertUnwindSafe(|| drop(future))).is_err()
    {
        tracing::error!("a task panicked while it was dropped");
    }
}

/// Lets the other tasks of the shard have their turn.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::rc::Rc;
    use std::task::Poll;

    use super::*;
    use crate::shard::waker;

    fn run(tasks: &Tasks) -> Vec<Polled> {
        let mut polled = Vec::new();
        while let Some(key) = tasks.next_ready() {
            polled.push(tasks.poll(key));
        }
        polled
    }

    #[test]
    fn a_wake_for_a_reused_slot_does_nothing() {
        let tasks = Rc::new(Tasks::new(7));
        let _here = waker::enter(tasks.clone());
        let old = tasks.spawn(Box::pin(ready(())));
        assert_eq!(run(&tasks), [Polled::Done]);
        let new = tasks.spawn(Box::pin(pending()));
        assert_eq!(old.slot(), new.slot());
        assert_eq!(run(&tasks), [Polled::Pending]);
        old.waker().wake();
        assert_eq!(run(&tasks), []);
        new.waker().wake_by_ref();
        new.waker().wake();
        assert_eq!(run(&tasks), [Polled::Pending], "queued once, however often it is woken");
    }

    #[test]
    fn a_panic_ends_its_own_task_only() {
        let tasks = Rc::new(Tasks::new(7));
        let _here = waker::enter(tasks.clone());
        tasks.spawn(Box::pin(async { panic!("on purpose") }));
        tasks.spawn(Box::pin(async {}));
        assert_eq!(run(&tasks), [Polled::Panicked, Polled::Done]);
        assert_eq!(tasks.len(), 0);
    }

    #[test]
    fn a_task_goes_on_as_another() {
        let tasks = Rc::new(Tasks::new(7));
        let _here = waker::enter(tasks.clone());
        let other = tasks.clone();
        let key = tasks.spawn(Box::pin(async move { other.go_on_as(Box::pin(async {})) }));
        let first = tasks.next_ready().expect("spawned");
        assert_eq!((first, tasks.poll(first)), (key, Polled::Pending));
        assert!(tasks.is_alive(key));
        assert_eq!(run(&tasks), [Polled::Done]);
        assert_eq!(tasks.len(), 0);
    }

    #[test]
    fn a_task_may_abort_itself_and_spawn_others() {
        let tasks = Rc::new(Tasks::new(7));
        let _here = waker::enter(tasks.clone());
        let other = tasks.clone();
        let mut key = None;
        let aborting = std::future::poll_fn(move |_| {
            other.spawn(Box::pin(ready(())));
            let me: TaskKey = TaskKey::new(7, 1, 0);
            key.get_or_insert(me);
            other.abort(me);
            Poll::<()>::Pending
        });
        tasks.spawn(Box::pin(aborting));
        assert_eq!(run(&tasks), [Polled::Pending, Polled::Done]);
        assert_eq!(tasks.len(), 0);
    }
}
