//! Entries under a budget, for a time: S3-FIFO (Yang et al., "FIFO queues are all you need for cache
//! eviction", SOSP 2023).
//!
//! What is new goes to a small queue, a tenth of the budget. Who was asked for again by its end
//! moves to the main queue; who was not is thrown out, and remembered for a while: if it comes
//! back, it goes to the main queue at once. The main queue gives those asked for another round.

use std::borrow::{Borrow, Cow};
use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::expiry::{Expiry, TICK_MS_LOG};
use super::fifo::{Fifo, Links};
use super::ghost::Ghost;
use super::stale::{Place, Places, Stale, Version};

/// Keys and values of one shard.
pub(crate) struct Store<K, V> {
    hasher: RandomState,
    table: HashTable<u32>,
    slots: Vec<Option<Slot<K, V>>>,
    /// Of the same entries.
    lastings: Vec<Lasting>,
    free: Vec<u32>,
    links: Links,
    small: Fifo,
    main: Fifo,
    ghost: Ghost,
    expiry: Expiry,
    /// The words that were heard.
    pub(crate) stale: Stale,
    places: Places,
    /// A key as text, once a word was about texts.
    text: Option<Text<K>>,
    /// What has gone and is not dropped yet: see [`Store::gone`].
    gone: Vec<(K, V)>,
    /// Of the entries that have tags; as long as the last of them needs.
    tags: Vec<Option<Box<[Place]>>>,
    /// Of all entries, of those in the small queue, and the most of them.
    weight: u64,
    small_weight: u64,
    weight_max: u64,
    entries_max: usize,
    /// Entries for whose number the ghost is large enough.
    ghost_for: usize,
}

/// What a hit looks at, close together.
struct Slot<K, V> {
    key: K,
    value: V,
    /// The newest word that it is known to be newer than.
    born: Version,
    uses: u8,
    in_main: bool,
    /// Its lasting says when it dies.
    mortal: bool,
}

/// How long an entry lasts.
#[derive(Clone, Copy)]
struct Lasting {
    /// The first millisecond in which it is dead; `u64::MAX` is never.
    expires_ms: u64,
    weight: u32,
    /// How long it lives after it was last asked for, in ticks; 0 is no bound.
    idle_ticks: u32,
    used_tick: u32,
    /// Of its key: no code of the key's runs while entries move and go.
    hash: u32,
}

/// What is stored with a value.
#[derive(Clone, Default)]
pub(crate) struct Terms {
    pub(crate) weight: u32,
    pub(crate) life: Life,
    /// The newest word that the value is newer than.
    pub(crate) born: Version,
    pub(crate) tags: Option<Box<[Place]>>,
}

/// A key as text.
pub(crate) type Text<K> = fn(&K) -> Cow<'_, str>;

/// How long an entry lives, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Life {
    /// After it was stored; none is for ever.
    pub(crate) ttl_ms: Option<u64>,
    /// After it was last asked for; none is no bound.
    pub(crate) idle_ms: Option<u64>,
}

/// Why entries have gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gone {
    pub(crate) evicted: u64,
    pub(crate) expired: u64,
}

const USES_MAX: u8 = 3;
/// The small queue's share of the budget is one in so many.
const SMALL_SHARE: u64 = 10;

impl<K: Hash + Eq, V> Store<K, V> {
    /// For so many entries that weigh so much together.
    pub(crate) fn new(
        weight_max: u64,
        entries_max: usize,
        places: Places,
        now_ms: u64,
    ) -> Store<K, V> {
        Store {
            hasher: RandomState::default(),
            table: HashTable::new(),
            slots: Vec::new(),
            lastings: Vec::new(),
            free: Vec::new(),
            links: Links::default(),
            small: Fifo::new(),
            main: Fifo::new(),
            ghost: Ghost::new(),
            expiry: Expiry::new(tick(now_ms)),
            stale: Stale::default(),
            places,
            text: None,
            gone: Vec::new(),
            tags: Vec::new(),
            weight: 0,
            small_weight: 0,
            weight_max,
            entries_max: entries_max.clamp(1, 1 << 31),
            ghost_for: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn weight(&self) -> u64 {
        self.weight
    }

    /// The value of a key that is there and alive.
    #[inline]
    pub(crate) fn get<Q>(&mut self, key: &Q, now_ms: impl FnOnce() -> u64) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let id = self.find(key)?;
        let slot = self.slots[id as usize].as_ref()?;
        if slot.mortal || slot.born != self.stale.newest() {
            return self.get_proved(id, now_ms());
        }
        self.used(id)
    }

    #[inline]
    fn used(&mut self, id: u32) -> Option<&mut V> {
        let slot = self.slots[id as usize].as_mut()?;
        if slot.uses < USES_MAX {
            slot.uses += 1;
        }
        Some(&mut slot.value)
    }

    /// Apart, so that a hit which has nothing to prove does not pay for it.
    #[inline(never)]
    fn get_proved(&mut self, id: u32, now_ms: u64) -> Option<&mut V> {
        if !self.prove(id, now_ms) {
            return None; // see `forget_stale`
        }
        self.used(id)
    }

    /// Takes a key out that was not found because a word was about it. Apart, so that a hit does
    /// not pay for it.
    #[cold]
    pub(crate) fn forget_stale<Q>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if let Some(id) = self.find(key).filter(|id| self.is_stale(*id)) {
            self.forget(id);
        }
    }

    /// The same, without counting as a use.
    pub(crate) fn peek<Q>(&self, key: &Q, now_ms: u64) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let id = self.find(key)?;
        let alive = !self.is_dead(id, now_ms) && !self.is_stale(id);
        self.slots[id as usize].as_ref().filter(|_| alive).map(|it| &it.value)
    }

    /// Stores a value, in place of an older one, and throws out what is too much. One that weighs
    /// more than the whole budget is not kept, nor one that a word was about.
    pub(crate) fn insert(&mut self, key: K, value: V, terms: Terms, now_ms: u64) -> Gone {
        let mut gone = self.sweep(now_ms);
        let hash = self.hash_of(&key);
        let found = self.find_hashed(&key, hash);
        if u64::from(terms.weight) > self.weight_max {
            if let Some(id) = found {
                let alive = !self.is_dead(id, now_ms) && !self.is_stale(id);
                gone.evicted += u64::from(alive);
                self.forget(id);
            }
            self.gone.push((key, value));
            return gone;
        }
        let id = match found {
            Some(id) => self.replace(id, key, value, terms.weight),
            None => self.add(key, value, hash, terms.weight),
        };
        self.tag(id, terms.tags);
        let (lasting, life) = (&mut self.lastings[id as usize], terms.life);
        lasting.idle_ticks = life.idle_ms.map_or(0, |it| tick(it).max(1));
        lasting.used_tick = tick(now_ms);
        lasting.expires_ms = life.ttl_ms.map_or(u64::MAX, |ttl_ms| now_ms.saturating_add(ttl_ms));
        if let Some(slot) = &mut self.slots[id as usize] {
            slot.born = terms.born;
        }
        self.watch(id);
        gone.evicted += self.shrink(id);
        gone
    }

    /// Takes an entry out; none if it was not there, or dead.
    pub(crate) fn remove<Q>(&mut self, key: &Q, now_ms: u64) -> Option<(K, V)>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let id = self.find(key)?;
        let alive = !self.is_dead(id, now_ms) && !self.is_stale(id);
        if !alive {
            self.forget(id);
            return None;
        }
        self.take(id)
    }

    /// One of those that have gone: the caller drops it once the store is free again, as a drop
    /// may be the user's code, and may ask the same cache.
    #[inline]
    pub(crate) fn gone(&mut self) -> Option<(K, V)> {
        self.gone.pop()
    }

    /// When an entry dies: in so many milliseconds, or never; none if it is not there.
    pub(crate) fn ttl_ms<Q>(&self, key: &Q, now_ms: u64) -> Option<Option<u64>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let id = self.find(key).filter(|id| !self.is_stale(*id))?;
        let expires_ms = self.lastings[id as usize].expires_ms;
        let mortal = expires_ms != u64::MAX;
        (!self.is_dead(id, now_ms)).then(|| mortal.then(|| expires_ms - now_ms))
    }

    /// Lets an entry live so much longer from now on; false if it is not there.
    pub(crate) fn extend<Q>(&mut self, key: &Q, ttl_ms: Option<u64>, now_ms: u64) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let Some(id) = self.find(key).filter(|id| !self.is_stale(*id)) else { return false };
        if self.is_dead(id, now_ms) {
            return false;
        }
        let expires_ms = &mut self.lastings[id as usize].expires_ms;
        *expires_ms = ttl_ms.map_or(u64::MAX, |ttl_ms| now_ms.saturating_add(ttl_ms));
        self.watch(id);
        true
    }

    /// From now on words may be about keys as text.
    pub(crate) fn read_keys(&mut self, text: Text<K>) {
        self.text = Some(text);
    }

    /// Whether a value of this key, as new as `born`, is one that no word was about.
    pub(crate) fn is_fresh(&self, key: &K, born: Version, tags: Option<&[Place]>) -> bool {
        if born == self.stale.newest() {
            return true;
        }
        let text = self.text.map(|text| text(key));
        !self.stale.is_stale(born, tags, &self.places, text.as_deref())
    }

    /// Gives an entry its tags, in place of those it had.
    fn tag(&mut self, id: u32, tags: Option<Box<[Place]>>) {
        let id = id as usize;
        if tags.is_some() && self.tags.len() <= id {
            self.tags.resize(id + 1, None);
        }
        if let Some(of) = self.tags.get_mut(id) {
            *of = tags;
        }
    }

    fn is_stale(&self, id: u32) -> bool {
        let tags = self.tags.get(id as usize).and_then(Option::as_deref);
        let slot = self.slots[id as usize].as_ref();
        slot.is_some_and(|it| !self.is_fresh(&it.key, it.born, tags))
    }

    #[inline]
    fn is_dead(&self, id: u32, now_ms: u64) -> bool {
        self.lastings[id as usize].is_dead(now_ms)
    }

    /// Whether an entry that is asked for is alive, and no word was about it that it has not met.
    /// It has met them then.
    fn prove(&mut self, id: u32, now_ms: u64) -> bool {
        if self.is_dead(id, now_ms) || self.is_stale(id) {
            return false;
        }
        if let Some(slot) = &mut self.slots[id as usize] {
            slot.born = self.stale.newest();
        }
        let lasting = &mut self.lastings[id as usize];
        if lasting.idle_ticks > 0 {
            lasting.used_tick = tick(now_ms);
        }
        true
    }

    /// Takes out what is dead.
    pub(crate) fn sweep(&mut self, now_ms: u64) -> Gone {
        let mut gone = Gone::default();
        while let Some(id) = self.expiry.pop(tick(now_ms)) {
            match self.is_dead(id, now_ms) {
                true => gone.expired += u64::from(self.forget(id)),
                false => self.watch(id), // it was asked for meanwhile
            }
        }
        gone
    }

    /// Whether anything dies by itself.
    pub(crate) fn has_mortal(&self) -> bool {
        self.expiry.len() > 0
    }

    /// Takes all of them out: for the caller to drop.
    #[must_use]
    pub(crate) fn clear(&mut self) -> impl Sized + use<K, V> {
        self.table.clear();
        let gone = std::mem::take(&mut self.slots);
        self.lastings.clear();
        self.free.clear();
        self.links.clear();
        (self.small, self.main) = (Fifo::new(), Fifo::new());
        self.ghost.clear();
        self.expiry.clear();
        self.tags = Vec::new();
        (self.weight, self.small_weight, self.ghost_for) = (0, 0, 0);
        gone
    }

    #[inline]
    fn hash_of<Q: Hash + ?Sized>(&self, key: &Q) -> u32 {
        self.hasher.hash_one(key) as u32
    }

    #[inline]
    fn find<Q>(&self, key: &Q) -> Option<u32>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.find_hashed(key, self.hash_of(key))
    }

    #[inline]
    fn find_hashed<Q>(&self, key: &Q, hash: u32) -> Option<u32>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let same =
            |id: &u32| self.slots[*id as usize].as_ref().is_some_and(|it| it.key.borrow() == key);
        self.table.find(spread(hash), same).copied()
    }

    /// Looks after an entry that dies by itself: it is taken out in the tick after its death.
    fn watch(&mut self, id: u32) {
        let it = self.lastings[id as usize];
        let idle = match it.idle_ticks {
            0 => u32::MAX,
            ticks => it.used_tick.saturating_add(ticks),
        };
        let ttl = if it.expires_ms == u64::MAX { u32::MAX } else { tick(it.expires_ms) };
        if let Some(slot) = &mut self.slots[id as usize] {
            slot.mortal = it.idle_ticks > 0 || it.expires_ms != u64::MAX;
        }
        match idle.min(ttl) {
            u32::MAX => self.expiry.unset(id),
            due => self.expiry.set(id, due.saturating_add(1)),
        }
    }

    fn replace(&mut self, id: u32, key: K, value: V, weight: u32) -> u32 {
        let Some(slot) = &mut self.slots[id as usize] else { return id };
        self.gone.push((key, std::mem::replace(&mut slot.value, value)));
        let old = &mut self.lastings[id as usize].weight;
        let old = u64::from(std::mem::replace(old, weight));
        self.weight = self.weight - old + u64::from(weight);
        if !slot.in_main {
            self.small_weight = self.small_weight - old + u64::from(weight);
        }
        id
    }

    fn add(&mut self, key: K, value: V, hash: u32, weight: u32) -> u32 {
        let in_main = self.ghost.remove(spread(hash));
        let slot = Some(Slot { key, value, born: 0, uses: 0, in_main, mortal: false });
        let lasting = Lasting { expires_ms: u64::MAX, weight, idle_ticks: 0, used_tick: 0, hash };
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = slot;
                self.lastings[id as usize] = lasting;
                id
            }
            None => {
                self.slots.push(slot);
                self.lastings.push(lasting);
                self.slots.len() as u32 - 1
            }
        };
        let lastings = &self.lastings;
        self.table.insert_unique(spread(hash), id, |id| spread(lastings[*id as usize].hash));
        self.weight += u64::from(weight);
        match in_main {
            true => self.main.push(&mut self.links, id),
            false => {
                self.small_weight += u64::from(weight);
                self.small.push(&mut self.links, id);
            }
        }
        id
    }

    /// Throws out what is too much, `spared` last; how many.
    fn shrink(&mut self, spared: u32) -> u64 {
        let mut evicted = 0;
        if self.is_over() && self.len() > self.ghost_for {
            // About as many as there are entries: more bring back more of what is of no use.
            self.ghost_for = self.len() + self.len() / 8;
            self.ghost.keep(self.len() + self.len() / 10);
        }
        while self.is_over() {
            let small = self.small.oldest();
            let from_small = self.small_weight > self.weight / SMALL_SHARE;
            let id = match (small, self.main.oldest()) {
                (Some(id), None) => id,
                (Some(id), Some(_)) if from_small => id,
                (_, Some(id)) => id,
                (None, None) => return evicted,
            };
            evicted += u64::from(self.judge(id, spared));
        }
        evicted
    }

    fn is_over(&self) -> bool {
        self.weight > self.weight_max || self.table.len() > self.entries_max
    }

    /// Another round for an entry, or its end; true if that was its end.
    fn judge(&mut self, id: u32, spared: u32) -> bool {
        let alone = self.table.len() == 1;
        let Some(slot) = &mut self.slots[id as usize] else { return false };
        if slot.in_main {
            if slot.uses > 0 || (id == spared && !alone) {
                slot.uses = slot.uses.saturating_sub(1);
                self.main.remove(&mut self.links, id);
                self.main.push(&mut self.links, id);
                return false;
            }
        } else if slot.uses > 0 || (id == spared && !alone) {
            (slot.uses, slot.in_main) = (0, true);
            self.small_weight -= u64::from(self.lastings[id as usize].weight);
            self.small.remove(&mut self.links, id);
            self.main.push(&mut self.links, id);
            return false;
        } else {
            self.ghost.insert(spread(self.lastings[id as usize].hash));
        }
        self.forget(id)
    }

    /// Takes an entry out, to be dropped later.
    fn forget(&mut self, id: u32) -> bool {
        let entry = self.take(id);
        let was_there = entry.is_some();
        self.gone.extend(entry);
        was_there
    }

    fn take(&mut self, id: u32) -> Option<(K, V)> {
        let slot = self.slots[id as usize].take()?;
        let Lasting { weight, hash, .. } = self.lastings[id as usize];
        if let Ok(found) = self.table.find_entry(spread(hash), |it| *it == id) {
            found.remove();
        }
        self.weight -= u64::from(weight);
        match slot.in_main {
            true => self.main.remove(&mut self.links, id),
            false => {
                self.small_weight -= u64::from(weight);
                self.small.remove(&mut self.links, id);
            }
        }
        self.expiry.unset(id);
        self.tag(id, None);
        self.free.push(id);
        Some((slot.key, slot.value))
    }
}

impl Lasting {
    #[inline]
    fn is_dead(&self, now_ms: u64) -> bool {
        let idle =
            self.idle_ticks > 0 && tick(now_ms) > self.used_tick.saturating_add(self.idle_ticks);
        self.expires_ms <= now_ms || idle
    }
}

/// What tables want of a hash: its lowest and its highest bits.
#[inline]
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

/// The tick of a moment.
fn tick(ms: u64) -> u32 {
    u32::try_from(ms >> TICK_MS_LOG).unwrap_or(u32::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::BTreeMap;

    const FOR_EVER: Life = Life { ttl_ms: None, idle_ms: None };

    fn terms(weight: u32, life: Life) -> Terms {
        Terms { weight, life, ..Terms::default() }
    }

    fn random(seed: &mut u64) -> u64 {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed
    }

    /// What is there is what was stored last, alive, and never more than the budget.
    #[test]
    fn it_never_tells_anything_but_the_last_word() {
        let (mut store, mut seed, mut now_ms) =
            (Store::new(500, 60, Places::default(), 0), 42, 0u64);
        // Key -> (value, dead at, idle, used at).
        type Row = (u64, u64, Option<u64>, u64);
        let mut model: BTreeMap<u64, Row> = BTreeMap::new();
        for turn in 0..200_000u64 {
            let key = random(&mut seed) % 100;
            let is_dead = |row: &Row| {
                row.1 <= now_ms
                    || row.2.is_some_and(|idle| tick(now_ms) > tick(row.3) + tick(idle).max(1))
            };
            match random(&mut seed) % 16 {
                0..6 => {
                    let ttl_ms = [None, Some(0), Some(50), Some(5_000)][turn as usize % 4];
                    let idle_ms = [None, Some(1_000)][turn as usize / 4 % 2];
                    let weight = 1 + (random(&mut seed) % 20) as u32;
                    let life = Life { ttl_ms, idle_ms };
                    store.insert(key, turn, terms(weight, life), now_ms);
                    let dead_ms = ttl_ms.map_or(u64::MAX, |it| now_ms + it);
                    model.insert(key, (turn, dead_ms, idle_ms, now_ms));
                }
                6..13 => {
                    let found = store.get(&key, || now_ms).copied();
                    if let Some(value) = found {
                        let row = model.get_mut(&key).expect("it was stored");
                        assert_eq!((value, is_dead(row)), (row.0, false), "at {now_ms}");
                        row.3 = now_ms;
                    }
                }
                13 => {
                    let found = store.remove(&key, now_ms).map(|it| it.1);
                    if let (Some(found), Some(row)) = (found, model.remove(&key)) {
                        assert_eq!((found, is_dead(&row)), (row.0, false));
                    }
                }
                14 => now_ms += random(&mut seed) % 200,
                _ => _ = store.sweep(now_ms),
            }
            assert!(store.weight() <= 500 && store.len() <= 60);
            while store.gone().is_some() {}
            assert_eq!(store.get(&1_000, || now_ms), None);
        }
        now_ms += 1_000_000;
        store.sweep(now_ms);
        assert!(!store.has_mortal(), "nothing dead stays");
        let kept: Vec<u64> = (0..100).filter_map(|key| store.peek(&key, now_ms).copied()).collect();
        assert_eq!(kept.len(), store.len());
        drop(store.clear());
        assert_eq!((store.len(), store.weight()), (0, 0));
    }

    #[test]
    fn what_is_asked_for_stays_through_a_scan() {
        let mut store = Store::new(u64::MAX, 100, Places::default(), 0);
        for key in 0..20 {
            store.insert(key, key, terms(1, FOR_EVER), 0);
        }
        for key in 0..100_000u64 {
            store.insert(1_000 + key, 0, terms(1, FOR_EVER), 0);
            if key % 20 == 0 {
                (0..20).for_each(|key| _ = store.get(&key, || 0));
            }
        }
        assert_eq!((0..20).filter(|key| store.peek(key, 0).is_some()).count(), 20);
        assert_eq!(store.len(), 100);
    }

    #[test]
    fn lives_and_weights() {
        let mut store = Store::new(10, 100, Places::default(), 0);
        let ttl = |ttl_ms| Life { ttl_ms: Some(ttl_ms), idle_ms: None };
        store.insert("a", 1, terms(1, ttl(100)), 0);
        store.insert("b", 2, terms(1, FOR_EVER), 0);
        assert_eq!((store.peek("a", 99), store.ttl_ms("a", 99)), (Some(&1), Some(Some(1))));
        assert_eq!((store.peek("a", 100), store.ttl_ms("a", 100)), (None, None));
        assert_eq!(store.ttl_ms("b", 100), Some(None), "no end");
        assert!(!store.extend("a", Some(5), 100), "it is dead");
        assert!(store.extend("b", Some(5), 100));
        assert_eq!(store.ttl_ms("b", 102), Some(Some(3)));
        assert_eq!(store.sweep(10_000), Gone { evicted: 0, expired: 2 });
        // Too heavy for the whole budget: not kept, and the older one is no word to go by.
        store.insert("c", 3, terms(1, FOR_EVER), 10_000);
        assert_eq!(store.insert("c", 4, terms(11, FOR_EVER), 10_000).evicted, 1);
        assert_eq!((store.peek("c", 10_000), store.weight()), (None, 0));
        // One that fits just so throws out all others, not itself.
        store.insert("d", 5, terms(1, FOR_EVER), 10_000);
        assert_eq!(store.insert("e", 6, terms(10, FOR_EVER), 10_000).evicted, 1);
        assert_eq!((store.peek("e", 10_000), store.len()), (Some(&6), 1));
    }
}
