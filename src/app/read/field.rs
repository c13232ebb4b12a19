//! Which field of a record does not suit, where a type refuses it that the csv crate has parsed:
//! the crate tells the field of its own refusals only.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use csv::StringRecord;
use serde::de::{
    Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor,
};

/// The index of the field whose value is no part of a `T`, in a second reading.
pub(super) fn refused<T: DeserializeOwned>(
    row: &StringRecord,
    head: Option<&StringRecord>,
) -> Option<usize> {
    match row.deserialize(head) {
        Ok(Traced::<T> { refused, .. }) => refused,
        Err(_) => None,
    }
}

struct Traced<T> {
    refused: Option<usize>,
    of: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Traced<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let trace = Trace::default();
        let _ = T::deserialize(Seen { of: from, trace: &trace });
        Ok(Traced { refused: trace.reading.get(), of: PhantomData })
    }
}

#[derive(Default)]
struct Trace {
    values: Cell<usize>,
    /// The value that is being read, or that was when it failed.
    reading: Cell<Option<usize>>,
}

impl Trace {
    fn read<T, E>(&self, read: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let at = self.values.get();
        self.values.set(at + 1);
        self.reading.set(Some(at));
        let value = read()?;
        self.reading.set(None);
        Ok(value)
    }
}

/// What it wraps, with an eye on which value is read: of a record, and of that alone.
struct Seen<'t, D> {
    of: D,
    trace: &'t Trace,
}

macro_rules! pass_on {
    ($($name:ident($($arg:ident: $kind:ty),*);)*) => {
        $(fn $name<V: Visitor<'de>>(
            self,
            $($arg: $kind,)*
            visitor: V,
        ) -> Result<V::Value, D::Error> {
            self.of.$name($($arg,)* Seen { of: visitor, trace: self.trace })
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Seen<'_, D> {
    type Error = D::Error;

    pass_on! {
        deserialize_map();
        deserialize_seq();
        deserialize_struct(name: &'static str, fields: &'static [&'static str]);
        deserialize_tuple(len: usize);
        deserialize_tuple_struct(name: &'static str, len: usize);
        deserialize_newtype_struct(name: &'static str);
        deserialize_any();
    }

    // A record that is one value: there is no field to tell.
    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct enum identifier ignored_any
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Seen<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.of.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, of: A) -> Result<V::Value, A::Error> {
        self.of.visit_map(Seen { of, trace: self.trace })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, of: A) -> Result<V::Value, A::Error> {
        self.of.visit_seq(Seen { of, trace: self.trace })
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, of: D) -> Result<V::Value, D::Error> {
        self.of.visit_newtype_struct(Seen { of, trace: self.trace })
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Seen<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        self.of.next_key_seed(seed)
    }

    fn next_value_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<K::Value, A::Error> {
        self.trace.read(|| self.of.next_value_seed(seed))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Seen<'_, A> {
    type Error = A::Error;

    fn next_element_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        self.trace.read(|| self.of.next_element_seed(seed))
    }
}
