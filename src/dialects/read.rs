//! How a provider's JSON is read: in one pass, into structs made with [`wire!`], without a tree in between. Fields which
//! are not asked for are passed over, at the speed of the [`Cursor`].
//!
//! A value of the wrong type reads as absent, and one odd field never costs the whole frame. Strings borrow from the
//! frame where JSON needs no unescaping.

use super::cursor::{Cursor, Wrong, float};
use super::loose::{Few, Flag, List, Num, Obj, Present, Str, TextOr};

/// What can be read from a value, whatever it is. Reads into place: answers are large structs of mostly absent fields.
pub(super) trait Read<'a>: Default {
    /// Reads the value at the cursor, which is not on white space, and passes it.
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Wrong>;
}

/// What can be read from an object; the cursor is on its brace.
pub(super) trait Fields<'a>: Default {
    /// Reads the object and passes it.
    fn fields(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Wrong>;
}

/// A struct read from an object: its fields, and the names they have there. A field which stands twice is an error, as
/// two readers may choose differently.
macro_rules! wire {
    (@ [$lifetime:lifetime] $name:ty { $($field:ident = $($key:literal)|+),* }) => {
        impl<$lifetime> $crate::dialects::read::Fields<$lifetime> for $name {
            fn fields(
                &mut self,
                cursor: &mut $crate::dialects::cursor::Cursor<$lifetime>,
            ) -> Result<(), $crate::dialects::cursor::Wrong> {
                #[derive(Clone, Copy)]
                #[allow(non_camel_case_types, reason = "named as the fields are")]
                enum Field { $($field,)* Other }
                let mut seen = 0u32;
                let mut more = cursor.open(b'}')?;
                while more {
                    cursor.white_space();
                    let field = cursor.key(|key| match key {
                        $($($key)|+ => Field::$field,)*
                        _ => Field::Other,
                    })?;
                    match field {
                        $(Field::$field => $crate::dialects::read::Read::read(&mut self.$field, cursor)?,)*
                        Field::Other => cursor.skip()?,
                    }
                    let bit = 1 << field as u32;
                    if seen & bit != 0 && !matches!(field, Field::Other) {
                        return Err($crate::dialects::cursor::Wrong::Twice);
                    }
                    seen |= bit;
                    more = cursor.more(b'}')?;
                }
                Ok(())
            }
        }
    };
    ($(#[$meta:meta])* pub(super) struct $name:ident<'a> {
        $($(#[$of_field:meta])* $field:ident: $type:ty = $($key:literal)|+,)*
    }) => {
        $(#[$meta])*
        #[derive(Default)]
        pub(super) struct $name<'a> { $($(#[$of_field])* pub(super) $field: $type,)* }
        wire!(@ ['a] $name<'a> { $($field = $($key)|+),* });
    };
    ($(#[$meta:meta])* pub(super) struct $name:ident {
        $($(#[$of_field:meta])* $field:ident: $type:ty = $($key:literal)|+,)*
    }) => {
        $(#[$meta])*
        #[derive(Default)]
        pub(super) struct $name { $($(#[$of_field])* pub(super) $field: $type,)* }
        wire!(@ ['a] $name { $($field = $($key)|+),* });
    };
}
pub(super) use wire;

impl<'a> Read<'a> for Str<'a> {
    #[inline]
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Wrong> {
        if cursor.byte()? != b'"' {
            return cursor.skip();
        }
        self.0 = Some(cursor.string_text()?);
        Ok(())
    }
}

/// The value as it stands, whatever it is; nothing where it is `null`.
impl<'a> Read<'a> for Option<&'a str> {
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Wrong> {
        let start = cursor.at;
        cursor.skip()?;
        let raw = &cursor.text[start..cursor.at];
        if raw != b"null" {
            *self = Some(std::str::from_utf8(raw).map_err(|_| Wrong::Utf8)?);
        }
        Ok(())
    }
}

impl<'a> Read<'a> for Num {
    #[inline]
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Wrong> {
        let (b'-' | b'0'..=b'9') = cursor.byte()? else {
            return cursor.skip();
        };
        let start = cursor.at;
        // The usual count: digits alone, few enough for a `u64`.
        let mut count = 0;
        let digits = cursor.text[start..]
            .iter()
            .take(19)
            .take_while(|byte| byte.is_ascii_digit());
        let length = digits.map(|digit| count = count * 10 + u64::from(digit - b'0')).count();
        if let Some(b',' | b'}' | b']' | b' ' | b'\n') = cursor.text.get(start + length)
            && (length == 1 || length > 1 && cursor.text[start] != b'0')
        {
            cursor.at += length;
            self.0 = Some(count);
            return Ok(());
        }
        cursor.number::<true>()?;
        let digits = &cursor.text[start..cursor.at];
        // The largest are cut to what fits.
        self.0 = float(digits).filter(|n| *n >= 0.0).map(|n| n as u64);
        Ok(())
    }
}

impl<'a> Read<'a> for Flag {
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Wrong> {
        self.0 = cursor.byte()? == b't';
        cursor.skip()
    }
}

impl<'a> Read<'a> for Present {
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Wrong> {
        let first = cursor.byte()?;
        let start = cursor.at;
        self.0 = match first {
            b'n' | b'f' => false,
            b'{' | b'[' => {
                let mut inside = Cursor { ..*cursor };
                inside.open(first + 2)?
            }
            _ => true,
        };
        cursor.skip()?;
        self.0 &= &cursor.text[start..cursor.at] != b"\"\"";
        Ok(())
    }
}

impl<'a, T: Fields<'a>> Read<'a> for Obj<T> {
    #[inline]
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Wrong> {
        if cursor.byte()? != b'{' {
            return cursor.skip();
        }
        self.0.insert(T::default()).fields(cursor)
    }
}

impl<'a, T: Fields<'a>> Fields<'a> for Box<T> {
    fn fields(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Wrong> {
        (**self).fields(cursor)
    }
}

/// Reads the objects of an array; the cursor is on its bracket. Other elements are passed over.
fn objects<'a, T: Fields<'a>>(list: &mut Vec<T>, cursor: &mut Cursor<'a>) -> Result<(), Wrong> {
    let mut more = cursor.open(b']')?;
    if more && list.is_empty() {
        // Mostly there is one; a `Vec` would begin with four, of large structs.
        list.reserve_exact(1);
    }
    while more {
        if cursor.next()? == b'{' {
            let mut object = T::default();
            object.fields(cursor)?;
            list.push(object);
        } else {
            cursor.skip()?;
        }
        more = cursor.more(b']')?;
    }
    Ok(())
}

impl<'a, T: Fields<'a>> Read<'a> for List<T> {
    #[inline]
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Wrong> {
        if cursor.byte()? != b'[' {
            return cursor.skip();
        }
        objects(&mut self.0, cursor)
    }
}

impl<'a, T: Fields<'a>> Read<'a> for Few<T> {
    #[inline]
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Wrong> {
        if cursor.byte()? != b'[' {
            return cursor.skip();
        }
        let mut more = cursor.open(b']')?;
        while more {
            if cursor.next()? != b'{' {
                cursor.skip()?;
            } else if self.first.is_none() {
                self.first.insert(T::default()).fields(cursor)?;
            } else {
                let mut element = T::default();
                element.fields(cursor)?;
                self.rest.push(element);
            }
            more = cursor.more(b']')?;
        }
        Ok(())
    }
}

impl<'a, T: Fields<'a>> Read<'a> for TextOr<'a, T> {
    #[inline]
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Wrong> {
        *self = match cursor.byte()? {
            b'"' => TextOr::Text(cursor.string_text()?),
            b'[' => {
                let mut parts = Vec::new();
                objects(&mut parts, cursor)?;
                TextOr::Parts(parts)
            }
            _ => return cursor.skip(),
        };
        Ok(())
    }
}
