//! Durations, sizes and secrets, as configuration writes them.

use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Reads `KEY=VALUE`.
pub fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        Some(_) | None => Err("write KEY=VALUE, such as upload.lease=1m".to_owned()),
    }
}

/// Reads `300ms`, `5s`, `24h`, `7d`; also sums such as `1h 30m`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    if text.trim().bytes().all(|b| b.is_ascii_digit()) && text.trim() != "0" {
        return Err(format!("{text:?} has no unit: write for example {}s", text.trim()));
    }
    humantime::parse_duration(text.trim())
        .map_err(|e| format!("{text:?} is not a duration such as 300ms, 5s, 24h or 7d ({e})"))
}

/// Writes a duration in the largest unit that divides it: `7d`, `90s`, `300ms`.
pub fn format_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis != 0 && millis.is_multiple_of(size) {
            return format!("{}{unit}", millis / size);
        }
    }
    if millis == 0 { "0s".to_owned() } else { format!("{millis}ms") }
}

const SIZES: [(&str, u64); 12] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("T", 1 << 40),
    ("G", 1 << 30),
    ("M", 1 << 20),
    ("K", 1 << 10),
];

/// Reads bytes as `1048576`, `8MiB`, `48.8TiB`, `10MB`.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size such as 1048576, 8MiB or 48.8TiB");
    let trimmed = text.trim();
    let digits = trimmed.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let unit = trimmed[digits.len()..].trim();
    let factor = match unit {
        "" | "B" => 1,
        unit => SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(wrong)?.1,
    };
    if let Ok(whole) = digits.parse::<u64>() {
        return whole.checked_mul(factor).ok_or_else(wrong);
    }
    // Fractions in integers, so that 48.8TiB is exact to the byte below.
    let (whole, fraction) = digits.split_once('.').ok_or_else(wrong)?;
    let all_digits = |s: &str| !s.is_empty() && s.len() <= 6 && s.bytes().all(|b| b.is_ascii_digit());
    if factor == 1 || !all_digits(whole) || !all_digits(fraction) {
        return Err(wrong());
    }
    let scale = 10u128.pow(u32::try_from(fraction.len()).map_err(|_| wrong())?);
    let number: u128 = format!("{whole}{fraction}").parse().map_err(|_| wrong())?;
    u64::try_from(number * u128::from(factor) / scale).map_err(|_| wrong())
}

/// Writes bytes in the largest binary unit that divides them: `8MiB`, `1000`.
pub fn format_bytes(bytes: u64) -> String {
    for (unit, size) in &SIZES[..4] {
        if bytes != 0 && bytes.is_multiple_of(*size) {
            return format!("{}{unit}", bytes / size);
        }
    }
    bytes.to_string()
}

/// `#[serde(with = "units::duration")]`
pub mod duration {
    use super::*;

    #[derive(Deserialize)]
    #[serde(untagged, expecting = "must be a duration such as \"300ms\", \"5s\", \"24h\" or \"7d\"")]
    enum Written {
        /// Only to say what is missing.
        Number(u64),
        Text(String),
    }

    /// Reads it.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = match Written::deserialize(from)? {
            Written::Number(number) => number.to_string(),
            Written::Text(text) => text,
        };
        parse_duration(&text).map_err(serde::de::Error::custom)
    }

    /// Writes it.
    pub fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format_duration(*value))
    }
}

/// `#[serde(with = "units::bytes")]`
pub mod bytes {
    use super::*;

    #[derive(Deserialize)]
    #[serde(untagged, expecting = "must be a size such as 1048576, \"8MiB\" or \"48.8TiB\"")]
    pub(super) enum Written {
        Number(u64),
        Text(String),
    }

    impl Written {
        pub(super) fn read(self) -> Result<u64, String> {
            match self {
                Self::Number(bytes) => Ok(bytes),
                Self::Text(text) => parse_bytes(&text),
            }
        }
    }

    /// Reads it.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        Written::deserialize(from)?.read().map_err(serde::de::Error::custom)
    }

    /// Writes it.
    pub fn serialize<S: Serializer>(value: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format_bytes(*value))
    }
}

/// `#[serde(with = "units::optional_bytes")]`
pub mod optional_bytes {
    use super::*;

    /// Reads it.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
        let written = Option::<super::bytes::Written>::deserialize(from)?;
        written.map(super::bytes::Written::read).transpose().map_err(serde::de::Error::custom)
    }

    /// Writes it.
    pub fn serialize<S: Serializer>(value: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(bytes) => to.serialize_some(&format_bytes(*bytes)),
            None => to.serialize_none(),
        }
    }
}

/// So many in a time, as `100/s`, `30/m` or `1000/h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many; at least 1.
    pub count: u32,
    /// In how long.
    pub per: Duration,
}

impl Rate {
    const UNITS: [(&str, u64); 3] = [("s", 1), ("m", 60), ("h", 3600)];

    /// Reads it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let read = || {
            let (count, unit) = text.trim().split_once('/')?;
            let (_, seconds) = Self::UNITS.into_iter().find(|(name, _)| *name == unit.trim())?;
            let count = count.trim().parse().ok().filter(|count| *count > 0)?;
            Some(Self { count, per: Duration::from_secs(seconds) })
        };
        read().ok_or_else(|| format!("{text:?} is not a rate such as 100/s, 30/m or 1000/h"))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = Self::UNITS.into_iter().find(|(_, seconds)| *seconds == self.per.as_secs());
        write!(f, "{}/{}", self.count, unit.map_or("s", |(name, _)| name))
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// A text that cannot be printed: `Debug` and `Serialize` mask it.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Takes the text in.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// The text, for the one place that needs it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("********")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Self::new)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str("********")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_written() {
        assert_eq!(Rate::parse(" 30/m"), Ok(Rate { count: 30, per: Duration::from_secs(60) }));
        for text in ["100/s", "30/m", "1000/h"] {
            assert_eq!(Rate::parse(text).map(|rate| rate.to_string()), Ok(text.to_owned()));
        }
        for wrong in ["", "100", "0/s", "-1/s", "1/d", "1/", "/s", "1.5/s"] {
            assert!(Rate::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_and_durations_are_read_and_written() {
        for (text, bytes) in
            [("0", 0), ("1048576", 1 << 20), ("8MiB", 8 << 20), ("8 mib", 8 << 20), ("10MB", 10_000_000)]
        {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        assert_eq!(parse_bytes("48.8TiB"), Ok(53_656_167_435_468));
        for text in ["", "MiB", "-1", "1.5", "1..5MiB", "99999999TiB", "8 apples"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
        assert_eq!(format_bytes(8 << 20), "8MiB");
        assert_eq!(format_bytes(1000), "1000");
        for text in ["300ms", "5s", "24h", "7d"] {
            let read = parse_duration(text).expect(text);
            assert_eq!(parse_duration(&format_duration(read)), Ok(read));
        }
        assert_eq!(format_duration(Duration::from_secs(604_800)), "7d");
        assert!(parse_duration("30").is_err_and(|e| e.contains("30s")));
    }

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "********");
        assert_eq!(serde_json::to_string(&secret).ok().as_deref(), Some("\"********\""));
    }
}
