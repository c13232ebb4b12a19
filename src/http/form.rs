//! Text fields into serde types: queries, forms, path parameters.
//!
//! A deserializer of our own, because serde_urlencoded does not say which field a mistake is in,
//! decodes onto the heap, and refuses a repeated name for a `Vec`.

use std::fmt;
use std::num::IntErrorKind;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Expected, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use crate::error::Error;
use crate::limits::MISTAKE_CHARS_MAX;

/// One field, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair<'a> {
    pub name: &'a str,
    pub value: &'a str,
    /// Its place among the others.
    pub at: usize,
}

/// Brings pairs into the order that [`read`] wants, without taking memory.
pub(crate) fn sort(pairs: &mut [Pair<'_>]) {
    pairs.sort_unstable_by_key(|pair| (pair.name, pair.at));
}

/// Reads a struct or a map from sorted pairs.
pub(crate) fn read<'a, T: Deserialize<'a>>(pairs: &'a [Pair<'a>]) -> Result<T, Mistake> {
    T::deserialize(Fields { rest: pairs, group: &[] })
}

/// What is wrong, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    field: Option<String>,
    what: String,
    /// The type does not suit, whatever the client sends.
    by_us: bool,
}

impl Mistake {
    fn new(what: impl Into<String>) -> Mistake {
        Mistake { field: None, what: what.into(), by_us: false }
    }

    fn in_field(field: &str, what: impl Into<String>) -> Mistake {
        Mistake { field: Some(shown(field)), ..Mistake::new(what) }
    }

    fn by_us(what: &str) -> Mistake {
        Mistake { by_us: true, ..Mistake::new(what) }
    }

    fn at(mut self, field: &str) -> Mistake {
        self.field.get_or_insert_with(|| shown(field));
        self
    }

    /// 400 that names the field, or `whole`; 500 where the client cannot help it.
    #[cold]
    pub(crate) fn into_error(self, whole: &str) -> Error {
        match self.by_us {
            true => Error::new(500, "internal error").because(format!("{whole}: {self}")),
            false if self.field.is_some() => Error::bad_request(self.to_string()),
            false => Error::bad_request(format!("{whole}: {self}")),
        }
    }
}

/// Text of the client's as a message may hold it: short, on one line.
pub(crate) fn shown(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '?' } else { c };
    let mut short: String = text.chars().take(MISTAKE_CHARS_MAX).map(plain).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "{field}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl std::error::Error for Mistake {}

impl serde::de::Error for Mistake {
    fn custom<T: fmt::Display>(text: T) -> Mistake {
        Mistake::new(shown(&text.to_string()))
    }

    fn invalid_type(given: Unexpected<'_>, expected: &dyn Expected) -> Mistake {
        match given {
            Unexpected::Map => Mistake::by_us("fields are read into a struct or a map"),
            _ => Mistake::new(format!("not {expected}")),
        }
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Mistake {
        Mistake::new(format!("not {expected}"))
    }

    fn invalid_length(len: usize, expected: &dyn Expected) -> Mistake {
        Mistake::new(format!("{len} values, not {expected}"))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Mistake {
        Mistake::new(format!("not one of {}", expected.join(", ")))
    }

    fn unknown_field(field: &str, _: &'static [&'static str]) -> Mistake {
        Mistake::in_field(field, "not known here")
    }

    fn missing_field(field: &'static str) -> Mistake {
        Mistake::in_field(field, "missing")
    }

    fn duplicate_field(field: &'static str) -> Mistake {
        Mistake::in_field(field, "given more than once")
    }
}

/// All fields: a struct or a map.
struct Fields<'a> {
    rest: &'a [Pair<'a>],
    /// Those of one name, whose turn it is.
    group: &'a [Pair<'a>],
}

impl<'a> Deserializer<'a> for Fields<'a> {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_map(self)
    }

    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.rest {
            [] => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_unit<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        <V: Visitor<'a>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'a> MapAccess<'a> for Fields<'a> {
    type Error = Mistake;

    fn next_key_seed<K: DeserializeSeed<'a>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Mistake> {
        let Some(first) = self.rest.first() else { return Ok(None) };
        let count = self.rest.iter().take_while(|pair| pair.name == first.name).count();
        (self.group, self.rest) = self.rest.split_at(count);
        let key = seed.deserialize(BorrowedStrDeserializer::new(first.name));
        key.map(Some).map_err(|mistake: Mistake| mistake.at(first.name))
    }

    fn next_value_seed<V: DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value, Mistake> {
        let name = self.group.first().map_or("", |pair| pair.name);
        seed.deserialize(Values(self.group)).map_err(|mistake| mistake.at(name))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// The values of one name: at least one.
#[derive(Clone, Copy)]
struct Values<'a>(&'a [Pair<'a>]);

impl<'a> Values<'a> {
    fn only(self) -> Result<&'a str, Mistake> {
        match self.0 {
            [pair] => Ok(pair.value),
            _ => Err(Mistake::new("given more than once")),
        }
    }

    fn number<T: Number>(self) -> Result<T, Mistake> {
        T::read(self.only()?).map_err(Mistake::new)
    }
}

/// A number in decimal digits.
trait Number: Sized {
    fn read(text: &str) -> Result<Self, &'static str>;
}

macro_rules! whole_numbers {
    ($($type:ty)*) => {$(
        impl Number for $type {
            fn read(text: &str) -> Result<Self, &'static str> {
                text.parse().map_err(|error: std::num::ParseIntError| match error.kind() {
                    IntErrorKind::PosOverflow => "too large a number",
                    IntErrorKind::NegOverflow => "too small a number",
                    _ => "not a number",
                })
            }
        }
    )*};
}
whole_numbers!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128);

macro_rules! real_numbers {
    ($($type:ty)*) => {$(
        impl Number for $type {
            fn read(text: &str) -> Result<Self, &'static str> {
                let finite = text.parse().ok().filter(|number: &$type| number.is_finite());
                finite.ok_or("not a number")
            }
        }
    )*};
}
real_numbers!(f32 f64);

macro_rules! read_numbers {
    ($($read:ident $visit:ident)*) => {$(
        fn $read<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Mistake> {
            visitor.$visit(self.number()?)
        }
    )*};
}

impl<'a> Deserializer<'a> for Values<'a> {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.0 {
            [pair] => visitor.visit_borrowed_str(pair.value),
            _ => self.deserialize_seq(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_borrowed_str(self.only()?)
    }

    fn deserialize_bytes<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_borrowed_bytes(self.only()?.as_bytes())
    }

    fn deserialize_byte_buf<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_bytes(visitor)
    }

    /// `on` is what a browser sends for a ticked box.
    fn deserialize_bool<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.only()? {
            "true" | "on" => visitor.visit_bool(true),
            "false" | "off" => visitor.visit_bool(false),
            _ => Err(Mistake::new("not true or false")),
        }
    }

    read_numbers! {
        deserialize_u8 visit_u8 deserialize_u16 visit_u16 deserialize_u32 visit_u32
        deserialize_u64 visit_u64 deserialize_u128 visit_u128
        deserialize_i8 visit_i8 deserialize_i16 visit_i16 deserialize_i32 visit_i32
        deserialize_i64 visit_i64 deserialize_i128 visit_i128
        deserialize_f32 visit_f32 deserialize_f64 visit_f64
    }

    /// A browser sends an empty value for an input that was left empty.
    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.0 {
            [pair] if pair.value.is_empty() => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.only()? {
            "" => visitor.visit_unit(),
            _ => Err(Mistake::new("not empty")),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let mut each = Each(self.0);
        let value = visitor.visit_seq(&mut each)?;
        match each.0 {
            [] => Ok(value),
            _ => Err(Mistake::new("too many values")),
        }
    }

    fn deserialize_tuple<V: Visitor<'a>>(self, _: usize, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'a>>(self, _: V) -> Result<V::Value, Mistake> {
        Err(Mistake::by_us("a field cannot hold a struct or a map"))
    }

    fn deserialize_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'a>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        visitor.visit_enum(Variant(self.only()?))
    }

    fn deserialize_ignored_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { <V: Visitor<'a>> char string identifier }
}

/// Values one by one.
struct Each<'a>(&'a [Pair<'a>]);

impl<'a> SeqAccess<'a> for Each<'a> {
    type Error = Mistake;

    fn next_element_seed<T: DeserializeSeed<'a>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Mistake> {
        let Some((_, rest)) = self.0.split_first() else { return Ok(None) };
        let first = &self.0[..1];
        self.0 = rest;
        seed.deserialize(Values(first)).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

/// The name of a variant without contents.
struct Variant<'a>(&'a str);

impl<'a> EnumAccess<'a> for Variant<'a> {
    type Error = Mistake;
    type Variant = Bare;

    fn variant_seed<V: DeserializeSeed<'a>>(self, seed: V) -> Result<(V::Value, Bare), Mistake> {
        let variant = seed.deserialize(BorrowedStrDeserializer::<Mistake>::new(self.0))?;
        Ok((variant, Bare))
    }
}

struct Bare;

impl<'a> VariantAccess<'a> for Bare {
    type Error = Mistake;

    fn unit_variant(self) -> Result<(), Mistake> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'a>>(self, _: T) -> Result<T::Value, Mistake> {
        Err(not_bare())
    }

    fn tuple_variant<V: Visitor<'a>>(self, _: usize, _: V) -> Result<V::Value, Mistake> {
        Err(not_bare())
    }

    fn struct_variant<V: Visitor<'a>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Mistake> {
        Err(not_bare())
    }
}

#[cold]
fn not_bare() -> Mistake {
    Mistake::by_us("a field cannot hold a variant with contents")
}
