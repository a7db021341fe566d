//! Serde types which take whatever stands there: a field of the wrong type reads as absent, and one odd field never
//! costs the whole frame. Strings borrow from the frame where JSON needs no unescaping.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A string, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Str<'a>(pub(super) Option<Cow<'a, str>>);

impl<'a> Str<'a> {
    /// The text; empty where there is none.
    pub(super) fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or("")
    }

    /// The text; empty where there is none.
    pub(super) fn take(self) -> Cow<'a, str> {
        self.0.unwrap_or_default()
    }

    /// True if there is no text, or an empty one.
    pub(super) fn is_empty(&self) -> bool {
        self.as_str().is_empty()
    }
}

/// A word: a string, or a number as it would be printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Word(pub(super) Option<String>);

/// A whole number which is not negative, or nothing. Floats are cut: some wires write `12.0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Num(pub(super) Option<u64>);

/// A boolean, or nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flag(pub(super) bool);

/// A list; empty where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct List<T>(pub(super) Vec<T>);

/// A list which mostly has one element, as those of a chunk do: it stands here itself, so that reading it allocates
/// nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Few<T> {
    pub(super) first: Option<T>,
    pub(super) rest: Vec<T>,
}

impl<T> Few<T> {
    /// True if there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Them, in order.
    pub(super) fn all(self) -> impl Iterator<Item = T> {
        self.first.into_iter().chain(self.rest)
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Few {
            first: None,
            rest: Vec::new(),
        }
    }
}

/// An object, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Obj<T>(pub(super) Option<T>);

/// A text or a list of parts, as message content is in several wires.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum TextOr<'a, T> {
    /// Neither.
    #[default]
    Nothing,
    /// A text.
    Text(Cow<'a, str>),
    /// Parts.
    Parts(Vec<T>),
}

/// Whether something stands there, and is not `null`, `false`, or empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Present(pub(super) bool);

impl<T> Default for List<T> {
    fn default() -> Self {
        List(Vec::new())
    }
}

impl<T> Default for Obj<T> {
    fn default() -> Self {
        Obj(None)
    }
}

/// The visitor methods for values a type has no use for.
macro_rules! ignore {
    ($nothing:expr; $($what:ident)*) => { $(ignore!(@ $what $nothing);)* };
    (@ unit $n:expr) => {
        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> { Ok($n) }
    };
    (@ bool $n:expr) => {
        fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> { Ok($n) }
    };
    (@ numbers $n:expr) => {
        fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> { Ok($n) }
        fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> { Ok($n) }
        fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> { Ok($n) }
    };
    (@ str $n:expr) => {
        fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> { Ok($n) }
    };
    (@ seq $n:expr) => {
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok($n)
        }
    };
    (@ map $n:expr) => {
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok($n)
        }
    };
}

/// `expecting`, which never is shown: every value is taken.
macro_rules! expecting {
    () => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any value")
        }
    };
}

impl<'de: 'a, 'a> Deserialize<'de> for Str<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for V<'a> {
            type Value = Str<'a>;
            expecting!();
            ignore!(Str(None); unit bool numbers seq map);
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Str<'a>, E> {
                Ok(Str(Some(Cow::Borrowed(text))))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Str<'a>, E> {
                Ok(Str(Some(Cow::Owned(text.to_owned()))))
            }
        }
        deserializer.deserialize_any(V(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Word;
            expecting!();
            ignore!(Word(None); unit bool seq map);
            fn visit_str<E: Error>(self, text: &str) -> Result<Word, E> {
                Ok(Word((!text.is_empty()).then(|| text.to_owned())))
            }
            fn visit_u64<E: Error>(self, n: u64) -> Result<Word, E> {
                Ok(Word(Some(n.to_string())))
            }
            fn visit_i64<E: Error>(self, n: i64) -> Result<Word, E> {
                Ok(Word(Some(n.to_string())))
            }
            fn visit_f64<E: Error>(self, n: f64) -> Result<Word, E> {
                Ok(Word(Some(n.to_string())))
            }
        }
        deserializer.deserialize_any(V)
    }
}

impl<'de> Deserialize<'de> for Num {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Num;
            expecting!();
            ignore!(Num(None); unit bool str seq map);
            fn visit_u64<E: Error>(self, n: u64) -> Result<Num, E> {
                Ok(Num(Some(n)))
            }
            fn visit_i64<E: Error>(self, n: i64) -> Result<Num, E> {
                Ok(Num(u64::try_from(n).ok()))
            }
            fn visit_f64<E: Error>(self, n: f64) -> Result<Num, E> {
                Ok(Num((n.is_finite() && n >= 0.0).then_some(n as u64)))
            }
        }
        deserializer.deserialize_any(V)
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Flag;
            expecting!();
            ignore!(Flag(false); unit numbers str seq map);
            fn visit_bool<E: Error>(self, flag: bool) -> Result<Flag, E> {
                Ok(Flag(flag))
            }
        }
        deserializer.deserialize_any(V)
    }
}

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Present;
            expecting!();
            ignore!(Present(false); unit);
            ignore!(Present(true); numbers);
            fn visit_bool<E: Error>(self, flag: bool) -> Result<Present, E> {
                Ok(Present(flag))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Present, E> {
                Ok(Present(!text.is_empty()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Present, A::Error> {
                let mut any = false;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    any = true;
                }
                Ok(Present(any))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Present, A::Error> {
                let mut any = false;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    any = true;
                }
                Ok(Present(any))
            }
        }
        deserializer.deserialize_any(V)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Obj<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for V<T> {
            type Value = Obj<T>;
            expecting!();
            ignore!(Obj(None); unit bool numbers str seq);
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Obj<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(|object| Obj(Some(object)))
            }
        }
        deserializer.deserialize_any(V(PhantomData))
    }
}

/// The objects of a sequence; other elements are passed over.
fn objects<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(mut seq: A) -> Result<Vec<T>, A::Error> {
    let mut list = Vec::new();
    while let Some(element) = seq.next_element::<Obj<T>>()? {
        list.extend(element.0);
    }
    Ok(list)
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for V<T> {
            type Value = List<T>;
            expecting!();
            ignore!(List(Vec::new()); unit bool numbers str map);
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<List<T>, A::Error> {
                objects(seq).map(List)
            }
        }
        deserializer.deserialize_any(V(PhantomData))
    }
}

impl<'de: 'a, 'a, T: Deserialize<'de>> Deserialize<'de> for TextOr<'a, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V<'a, T>(PhantomData<(&'a (), T)>);
        impl<'de: 'a, 'a, T: Deserialize<'de>> Visitor<'de> for V<'a, T> {
            type Value = TextOr<'a, T>;
            expecting!();
            ignore!(TextOr::Nothing; unit bool numbers map);
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(TextOr::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(TextOr::Text(Cow::Owned(text.to_owned())))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                objects(seq).map(TextOr::Parts)
            }
        }
        deserializer.deserialize_any(V(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    struct All<'a> {
        #[serde(borrow, default)]
        text: Str<'a>,
        #[serde(default)]
        number: Num,
        #[serde(default)]
        flag: Flag,
        #[serde(borrow, default)]
        list: List<One<'a>>,
        #[serde(borrow, default)]
        object: Obj<One<'a>>,
        #[serde(borrow, default)]
        content: TextOr<'a, One<'a>>,
        #[serde(default)]
        present: Present,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    struct One<'a> {
        #[serde(borrow, default)]
        x: Str<'a>,
    }

    #[test]
    fn any_value_fits_any_field() {
        let values = [
            "null",
            "true",
            "-3",
            "12.5",
            "1e300",
            "\"s\"",
            "\"\\n\"",
            "[]",
            "[1,{\"x\":\"y\"}]",
            "{\"x\":[]}",
        ];
        for value in values {
            for field in ["text", "number", "flag", "list", "object", "content", "present"] {
                let json = format!("{{\"{field}\":{value},\"other\":{value}}}");
                let read: Result<All<'_>, _> = serde_json::from_str(&json);
                assert!(read.is_ok(), "{json}: {read:?}");
            }
        }
    }

    #[test]
    fn values_of_the_right_type_are_read_and_borrowed() {
        let json = r#"{"text":"a","number":7,"flag":true,"list":[{"x":"1"},2],"object":{"x":"2"},"content":"c","present":{"a":1}}"#;
        let read: All<'_> = serde_json::from_str(json).expect("valid");
        assert!(
            matches!(&read.text.0, Some(Cow::Borrowed("a"))),
            "plain strings are borrowed"
        );
        assert_eq!(
            (read.number, read.flag, read.present),
            (Num(Some(7)), Flag(true), Present(true))
        );
        assert_eq!(read.list.0.len(), 1);
        assert_eq!(read.object.0.map(|o| o.x.take()), Some(Cow::Borrowed("2")));
        assert_eq!(read.content, TextOr::Text(Cow::Borrowed("c")));
    }
}
