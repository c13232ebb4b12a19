//! Requests for what another one is making already: they wait for it, within bounds.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use crate::base::told::Told;
use crate::limits::RESPONSE_WAITERS_MAX;

/// What is being made, by key.
#[derive(Default)]
pub(super) struct Flights(RefCell<HashMap<Rc<str>, Rc<Flight>>>);

/// How it ended, for those who waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It can be looked up.
    Stored,
    /// It is not for others: each makes its own.
    NotStored,
    /// Whoever made it is gone, or what came is out of date: one of them is the next.
    Abandoned,
}

#[derive(Default)]
pub(super) struct Flight {
    end: Told<End>,
    /// Those who have waited, and may still.
    waiters: Cell<usize>,
}

/// Whoever makes it. Dropped before its end, it is abandoned.
pub(super) struct Lead {
    flights: Rc<Flights>,
    key: Rc<str>,
    flight: Rc<Flight>,
}

impl Flights {
    /// What somebody makes for that key.
    pub(super) fn of(&self, key: &str) -> Option<Rc<Flight>> {
        self.0.borrow().get(key).cloned()
    }

    /// From now on the caller makes it. Another one's flight ends as it may, for those it has.
    pub(super) fn lead(self: &Rc<Flights>, key: Rc<str>) -> Lead {
        let flight = Rc::new(Flight::default());
        self.0.borrow_mut().insert(key.clone(), flight.clone());
        Lead { flights: self.clone(), key, flight }
    }
}

impl Flight {
    /// Waits for its end; at once where too many wait.
    pub(super) async fn ended(&self) -> End {
        if self.waiters.get() >= RESPONSE_WAITERS_MAX {
            return End::NotStored;
        }
        self.waiters.set(self.waiters.get() + 1);
        self.end.told().await
    }
}

impl Lead {
    /// Whether somebody waits, or has.
    pub(super) fn is_awaited(&self) -> bool {
        self.flight.waiters.get() > 0
    }

    pub(super) fn end(self, end: End) {
        self.finish(end);
    }

    fn finish(&self, end: End) {
        let mut flights = self.flights.0.borrow_mut();
        if flights.get(&self.key).is_some_and(|it| Rc::ptr_eq(it, &self.flight)) {
            flights.remove(&self.key);
        }
        drop(flights);
        self.flight.end.tell(end);
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.finish(End::Abandoned); // no word after the first one counts
    }
}
