//! The leases of a database: the right to have one connection open, shared out among shards.
//!
//! A shard takes a lease before it connects and gives it back when the connection is closed. One
//! each is set aside for those that have none. Who finds no lease says so, and is rung when there
//! is one; the others see it, and close what they do not need.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::watch::{Bell, lock};

pub(super) struct Budget {
    inner: Mutex<Inner>,
    /// Shards that wait for a lease.
    wanting: AtomicUsize,
}

struct Inner {
    /// Leases there are, which may be fewer for a while than are held.
    limit: usize,
    seats: Vec<Seat>,
    /// Held by nobody's slice: pools of their own.
    apart: usize,
    moves: u64,
}

#[derive(Default)]
struct Seat {
    bell: Option<Arc<Bell>>,
    held: usize,
    wants: usize,
}

/// What a shard without a lease wants is one; what the others keep for it too.
const SET_ASIDE: usize = 1;

impl Budget {
    pub(super) fn new(limit: usize, shards: usize) -> Budget {
        let seats = (0..shards).map(|_| Seat::default()).collect();
        let inner = Inner { limit, seats, apart: 0, moves: 0 };
        Budget { inner: Mutex::new(inner), wanting: AtomicUsize::new(0) }
    }

    /// A shard is there from now on, to be rung.
    pub(super) fn sit(&self, shard: usize, bell: Arc<Bell>) {
        lock(&self.inner).seats[shard].bell = Some(bell);
    }

    /// A shard has ended: it waits for none, and gives back what it holds as that drops.
    pub(super) fn leave(&self, shard: usize) {
        let mut inner = lock(&self.inner);
        inner.seats[shard].bell = None;
        self.want_in(&mut inner, shard, 0);
    }

    /// One more lease for a shard; false if there is none, which is remembered until it takes one
    /// or wants none any more.
    pub(super) fn take(&self, shard: usize, wants: usize) -> bool {
        let mut inner = lock(&self.inner);
        if inner.free_for(Some(shard)) == 0 {
            self.want_in(&mut inner, shard, wants);
            inner.ring_holders(shard);
            return false;
        }
        inner.seats[shard].held += 1;
        let left = wants.saturating_sub(1);
        self.want_in(&mut inner, shard, left);
        true
    }

    /// A shard waits for no lease any more.
    pub(super) fn want_none(&self, shard: usize) {
        self.want_in(&mut lock(&self.inner), shard, 0);
    }

    /// A connection was closed.
    pub(super) fn give_back(&self, shard: usize) {
        let mut inner = lock(&self.inner);
        debug_assert!(inner.seats[shard].held > 0, "a lease that nobody has");
        inner.seats[shard].held = inner.seats[shard].held.saturating_sub(1);
        if inner.seats.iter().enumerate().any(|(at, it)| at != shard && it.wants > 0) {
            inner.moves += 1;
        }
        inner.ring_wanting();
    }

    /// Leases for connections that no slice keeps; all or none.
    pub(super) fn take_apart(&self, count: usize) -> bool {
        let mut inner = lock(&self.inner);
        let is_there = inner.free_for(None) >= count;
        inner.apart += if is_there { count } else { 0 };
        is_there
    }

    pub(super) fn give_back_apart(&self, count: usize) {
        let mut inner = lock(&self.inner);
        inner.apart -= count;
        inner.ring_wanting();
    }

    /// How many leases a shard should give away that holds `held`, `idle` of which it has not
    /// needed of late.
    pub(super) fn surplus(&self, shard: usize, idle: usize) -> usize {
        let over = self.over();
        if over == 0 && self.wanting.load(Ordering::Acquire) == 0 {
            return 0;
        }
        let inner = lock(&self.inner);
        let others = inner.seats.iter().enumerate().filter(|(at, _)| *at != shard);
        let wanted: usize = others.map(|(_, it)| it.wants).sum();
        let wanted = wanted.max(over);
        let spare = inner.seats[shard].held.saturating_sub(SET_ASIDE);
        wanted.min(idle).min(spare)
    }

    /// Whether a shard that has no idle one is to give one away at its next return: who wants holds
    /// at least two fewer.
    pub(super) fn is_unfair(&self, shard: usize) -> bool {
        if self.wanting.load(Ordering::Acquire) == 0 {
            return self.over() > 0 && lock(&self.inner).seats[shard].held > SET_ASIDE;
        }
        let inner = lock(&self.inner);
        let held = inner.seats[shard].held;
        inner.free_for(None) == 0
            && inner.seats.iter().any(|it| it.wants > 0 && it.held + 2 <= held)
    }

    /// Whether more are held than there are any more.
    pub(super) fn is_over(&self) -> bool {
        self.over() > 0
    }

    /// Leases that are held beyond the limit.
    fn over(&self) -> usize {
        let inner = lock(&self.inner);
        inner.held().saturating_sub(inner.limit)
    }

    pub(super) fn set_limit(&self, limit: usize) {
        let mut inner = lock(&self.inner);
        inner.limit = limit;
        inner.ring_wanting();
    }

    pub(super) fn limit(&self) -> usize {
        lock(&self.inner).limit
    }

    /// Leases that are out.
    pub(super) fn held(&self) -> usize {
        lock(&self.inner).held()
    }

    pub(super) fn held_by(&self, shard: usize) -> usize {
        lock(&self.inner).seats[shard].held
    }

    pub(super) fn held_apart(&self) -> usize {
        lock(&self.inner).apart
    }

    /// Leases given back while another shard waited for one.
    pub(super) fn moves(&self) -> u64 {
        lock(&self.inner).moves
    }

    fn want_in(&self, inner: &mut Inner, shard: usize, wants: usize) {
        let before = std::mem::replace(&mut inner.seats[shard].wants, wants);
        match (before > 0, wants > 0) {
            (false, true) => self.wanting.fetch_add(1, Ordering::AcqRel),
            (true, false) => self.wanting.fetch_sub(1, Ordering::AcqRel),
            _ => 0,
        };
    }
}

impl Inner {
    fn held(&self) -> usize {
        self.apart + self.seats.iter().map(|it| it.held).sum::<usize>()
    }

    /// What a shard may take, or nobody's slice: the others' first ones are set aside.
    fn free_for(&self, shard: Option<usize>) -> usize {
        let others = self.seats.iter().enumerate().filter(|(at, _)| Some(*at) != shard);
        let aside: usize = others.map(|(_, it)| SET_ASIDE.saturating_sub(it.held)).sum();
        self.limit.saturating_sub(self.held() + aside)
    }

    fn ring_wanting(&self) {
        let wanting = self.seats.iter().filter(|it| it.wants > 0);
        wanting.filter_map(|it| it.bell.as_ref()).for_each(|it| it.ring());
    }

    fn ring_holders(&self, but: usize) {
        let others = self.seats.iter().enumerate().filter(|(at, _)| *at != but);
        let holders = others.filter(|(_, it)| it.held > SET_ASIDE);
        holders.filter_map(|(_, it)| it.bell.as_ref()).for_each(|it| it.ring());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_never_more_than_there_are() {
        // A deterministic walk over all that can happen, against a plain count.
        let budget = Budget::new(7, 3);
        let (mut held, mut apart, mut random) = ([0usize; 3], 0usize, 1u64);
        for step in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step);
            let (shard, what) = ((random >> 33) as usize % 3, (random >> 40) % 8);
            match what {
                0..=3 => held[shard] += usize::from(budget.take(shard, 1)),
                4 | 5 if held[shard] > 0 => {
                    budget.give_back(shard);
                    held[shard] -= 1;
                }
                6 => apart += usize::from(budget.take_apart(1)),
                7 if apart > 0 => {
                    budget.give_back_apart(1);
                    apart -= 1;
                }
                _ => {}
            }
            let sum = held.iter().sum::<usize>() + apart;
            assert_eq!(budget.held(), sum);
            assert!(sum <= 7, "{held:?} and {apart}");
            let without = held.iter().filter(|it| **it == 0).count();
            assert!(sum + without <= 7, "one is set aside for each that has none: {held:?}");
        }
    }

    #[test]
    fn who_has_idle_ones_gives_them_to_who_wants() {
        let budget = Budget::new(8, 2);
        while budget.take(0, 1) {}
        budget.want_none(0);
        assert_eq!((budget.held_by(0), budget.surplus(0, 7)), (7, 0), "nobody wants any");
        assert!(budget.take(1, 6));
        assert!(!budget.take(1, 5), "all are out");
        assert_eq!(budget.surplus(0, 7), 5, "as many as are wanted");
        assert_eq!(budget.surplus(0, 2), 2, "no more than are idle");
        assert!(budget.is_unfair(0) && !budget.is_unfair(1));
        budget.give_back(0);
        assert!(budget.take(1, 5));
        assert_eq!(budget.moves(), 1);
    }

    #[test]
    fn a_smaller_budget_is_reached_by_giving_back() {
        let budget = Budget::new(8, 1);
        while budget.take(0, 1) {}
        budget.want_none(0);
        budget.set_limit(5);
        assert_eq!(budget.surplus(0, 8), 3);
        (0..3).for_each(|_| budget.give_back(0));
        assert_eq!(budget.surplus(0, 5), 0);
        assert!(!budget.take(0, 1));
        budget.leave(0);
        assert_eq!(budget.held(), 5, "they are on loan, and come back");
        (0..5).for_each(|_| budget.give_back(0));
        assert_eq!(budget.held(), 0);
    }
}
