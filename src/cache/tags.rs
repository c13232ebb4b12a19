//! What entries belong to, and what of it has been invalidated: by generations, so that a word
//! about a hundred thousand entries costs what one about none does.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;

/// The generation of each place; a tag has one by its hash. Tags that share a place are forgotten
/// together: too much is, now and then, and never too little. Nothing grows with the tags.
pub(crate) struct Tags {
    hasher: RandomState,
    /// Empty until there is a tag.
    generations: Vec<u32>,
}

/// A tag as it stood when an entry got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    place: u32,
    generation: u32,
}

const PLACES: usize = 1 << 16;

impl Tags {
    pub(crate) fn new() -> Tags {
        Tags { hasher: RandomState::default(), generations: Vec::new() }
    }

    /// The tags as they stand.
    pub(crate) fn marks(&mut self, tags: &[&str]) -> Box<[Mark]> {
        if self.generations.is_empty() && !tags.is_empty() {
            self.generations = vec![0; PLACES];
        }
        let mark = |tag: &&str| {
            let place = self.place(tag);
            Mark { place, generation: self.generations[place as usize] }
        };
        tags.iter().map(mark).collect()
    }

    /// What has this tag is stale from now on.
    pub(crate) fn invalidate(&mut self, tag: &str) {
        let place = self.place(tag) as usize;
        if let Some(generation) = self.generations.get_mut(place) {
            *generation = generation.wrapping_add(1);
        }
    }

    /// Whether none of them has been invalidated since.
    pub(crate) fn hold(&self, marks: &[Mark]) -> bool {
        marks.iter().all(|it| self.generations[it.place as usize] == it.generation)
    }

    fn place(&self, tag: &str) -> u32 {
        (self.hasher.hash_one(tag) >> 32) as u32 % PLACES as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_makes_all_of_a_tag_stale_and_few_others() {
        let mut tags = Tags::new();
        tags.invalidate("before there was one");
        let names: Vec<String> = (0..1_000).map(|it| format!("tag {it}")).collect();
        let marks: Vec<_> = names.iter().map(|it| tags.marks(&[it, "all"])).collect();
        assert!(marks.iter().all(|it| tags.hold(it)));
        tags.invalidate("tag 7");
        assert!(!tags.hold(&marks[7]));
        let stale = marks.iter().filter(|it| !tags.hold(it)).count();
        assert!(stale <= 3, "{stale}");
        let later = tags.marks(&["tag 7", "all"]);
        assert!(tags.hold(&later), "what comes later is fresh");
        for churn in 0..100_000 {
            tags.invalidate(&format!("churn {churn}"));
        }
        assert_eq!(tags.generations.len(), PLACES, "nothing grows");
        tags.invalidate("all");
        assert!(marks.iter().all(|it| !tags.hold(it)));
    }
}
