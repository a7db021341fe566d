//! A JSON object on one line, written field by field into a buffer. Each request logs one with more than twenty fields: names that are
//! known to need no escape, and texts that hardly ever do, are copied, not looked at byte by byte.

use std::net::IpAddr;

/// An object being written. Names must need no escape.
pub(super) struct JsonLine<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> JsonLine<'a> {
    /// Begins an object.
    pub(super) fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        JsonLine { out }
    }

    /// Ends it, and the line.
    pub(super) fn end(self) {
        if self.out.last() == Some(&b',') {
            self.out.pop();
        }
        self.out.extend_from_slice(b"}\n");
    }

    fn name(&mut self, name: &str) {
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// A text.
    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        // All bytes at once, without leaving at the first: the compiler makes vector instructions of it.
        let odd = value.bytes().fold(false, |odd, byte| {
            odd | (byte < b' ') | (byte == b'"') | (byte == b'\\')
        });
        if odd {
            // Writing into a vector can't fail.
            let _ = serde_json::to_writer(&mut *self.out, value);
        } else {
            self.out.push(b'"');
            self.out.extend_from_slice(value.as_bytes());
            self.out.push(b'"');
        }
        self.out.push(b',');
    }

    /// A number.
    pub(super) fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        self.digits(value);
        self.out.push(b',');
    }

    /// A number, if there is one.
    pub(super) fn number_if_any(&mut self, name: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.number(name, value);
        }
    }

    /// Yes or no.
    pub(super) fn flag(&mut self, name: &str, value: bool) {
        self.name(name);
        self.out.extend_from_slice(if value { b"true," } else { b"false," });
    }

    /// An address; empty: none.
    pub(super) fn address(&mut self, name: &str, value: Option<IpAddr>) {
        let Some(IpAddr::V4(address)) = value else {
            return self.text(name, &value.map(|address| address.to_string()).unwrap_or_default());
        };
        self.name(name);
        let mut before = b'"';
        for octet in address.octets() {
            self.out.push(before);
            self.digits(u64::from(octet));
            before = b'.';
        }
        self.out.extend_from_slice(b"\",");
    }

    fn digits(&mut self, mut value: u64) {
        /// As many as `u64::MAX` has.
        const MOST: usize = 20;
        let mut digits = [0; MOST];
        let mut at = MOST;
        loop {
            at -= 1;
            digits[at] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.out.extend_from_slice(&digits[at..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn what_is_written_reads_back(text: String, number: u64, flag: bool, address: IpAddr) {
            let mut out = Vec::new();
            let mut line = JsonLine::begin(&mut out);
            line.text("text", &text);
            line.number("number", number);
            line.number_if_any("none", None);
            line.flag("flag", flag);
            line.address("address", Some(address));
            line.address("nowhere", None);
            line.end();
            let read: serde_json::Value = serde_json::from_slice(&out).expect("it is JSON");
            let told = serde_json::json!({
                "text": text, "number": number, "flag": flag, "address": address.to_string(), "nowhere": ""
            });
            proptest::prop_assert_eq!(read, told);
            proptest::prop_assert_eq!(memchr::memchr(b'\n', &out), Some(out.len() - 1), "one line");
        }
    }

    #[test]
    fn nothing_is_an_object_too() {
        let mut out = Vec::new();
        JsonLine::begin(&mut out).end();
        assert_eq!(out, b"{}\n");
    }
}
