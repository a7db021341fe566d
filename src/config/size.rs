//! Sizes as people write them: `32MiB`, `64KiB`, `4096`.

/// The units, each 1024 of the one before.
const UNITS: [(&str, u64); 5] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Reads a size in bytes; an error says what is wrong with it.
pub fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    if number.is_empty() {
        return Err("it is not a size; write it as \"32MiB\", \"64KiB\" or a number of bytes".to_owned());
    }
    let factor = match UNITS.iter().find(|(name, _)| *name == unit) {
        Some((_, factor)) => *factor,
        None if unit.is_empty() => 1,
        None => return Err(unknown_unit(unit)),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(factor))
        .ok_or_else(|| "the number is too large".to_owned())
}

/// `MB` and `mb` could mean two things, so that they are not guessed at.
fn unknown_unit(unit: &str) -> String {
    let first = unit.chars().next().map(|c| c.to_ascii_uppercase());
    let near = UNITS.iter().skip(1).find(|(name, _)| name.chars().next() == first);
    match near {
        Some((near, _)) => format!("\"{unit}\" is not a unit here. Did you mean \"{near}\"?   (B, KiB, MiB, GiB, TiB)"),
        None => format!("\"{unit}\" is not a unit here; there are B, KiB, MiB, GiB, TiB"),
    }
}

/// Writes a size in the largest unit that divides it; [`parse`] reads it.
pub fn show(bytes: u64) -> String {
    match UNITS
        .iter()
        .rev()
        .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor))
    {
        Some((unit, factor)) if *factor > 1 => format!("{}{unit}", bytes / factor),
        _ => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_read() {
        for (text, bytes) in [
            ("32MiB", 32 << 20),
            ("64 KiB", 64 << 10),
            ("4096", 4096),
            ("7B", 7),
            ("2GiB", 2 << 30),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn ambiguous_units_are_asked_back() {
        assert!(parse("32MB").unwrap_err().contains("Did you mean \"MiB\"?"));
        assert!(parse("32k").unwrap_err().contains("Did you mean \"KiB\"?"));
        assert!(parse("32 apples").unwrap_err().contains("is not a unit"));
        assert!(parse("MiB").unwrap_err().contains("is not a size"));
        assert!(parse("-1").unwrap_err().contains("is not a size"));
        assert_eq!(parse("99999999999TiB").unwrap_err(), "the number is too large");
    }

    #[test]
    fn what_is_shown_can_be_read() {
        for bytes in [0, 1, 1023, 1024, 1536, 64 << 20, (1 << 40) + 1, u64::MAX] {
            assert_eq!(parse(&show(bytes)), Ok(bytes));
        }
        assert_eq!(show(32 << 20), "32MiB");
    }
}
