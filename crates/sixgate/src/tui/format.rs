//! Numbers as people read them: counts, bytes, rates, durations.
use crate::change::utc;

/// A count: exact with thousands separators up to 99,999, three significant digits above.
pub(super) fn count(value: u64) -> String {
    if value < 1_000 {
        value.to_string()
    } else if value < 100_000 {
        format!("{},{:03}", value / 1_000, value % 1_000)
    } else {
        let (number, unit) = scale(value as f64, 1_000.0, &["", "k", "M", "G", "T", "P", "E"]);
        format!("{number}{unit}")
    }
}

/// A quantity of bytes in binary units.
pub(super) fn bytes(value: u64) -> String {
    if value < 1_024 {
        return format!("{value} B");
    }
    let (number, unit) = scale(value as f64, 1_024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]);
    format!("{number} {unit}")
}

/// A rate of bytes as bits a second in decimal units, as links are sold.
pub(super) fn bit_rate(bytes_per_second: f64) -> String {
    let (number, unit) = scale(bytes_per_second * 8.0, 1_000.0, &["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"]);
    format!("{number} {unit}")
}

/// Events a second.
pub(super) fn per_second(rate: f64) -> String {
    let (number, unit) = scale(rate, 1_000.0, &["", "k", "M", "G"]);
    format!("{number}{unit}/s")
}

/// Packets a second.
pub(super) fn packet_rate(rate: f64) -> String {
    let (number, unit) = scale(rate, 1_000.0, &["", "k", "M", "G"]);
    format!("{number}{unit} packets/s")
}

/// A duration in its two largest units.
pub(super) fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    if days > 0 {
        format!("{days} d {hours} h")
    } else if hours > 0 {
        format!("{hours} h {minutes} min")
    } else if minutes > 0 {
        format!("{minutes} min {} s", seconds % 60)
    } else {
        format!("{seconds} s")
    }
}

/// A time in microseconds as milliseconds.
pub(super) fn millis(micros: u64) -> String {
    if micros < 100_000 {
        format!("{}.{} ms", micros / 1_000, micros / 100 % 10)
    } else {
        format!("{} ms", count(micros / 1_000))
    }
}

/// A part of a whole in percent, rounded down: 100 is all of it.
pub(super) fn share(part: u64, whole: u64) -> u64 {
    let percent = u128::from(part) * 100 / u128::from(whole.max(1));
    u64::try_from(percent.min(100)).unwrap_or(100)
}

/// The time of the day, of seconds since 1970, UTC. The date is seldom what is looked for.
pub(super) fn clock_time(seconds: u64) -> String {
    utc(seconds).split(' ').nth(1).unwrap_or_default().to_owned()
}

/// `1 error`, `2 errors`.
pub(super) fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Three significant digits and the unit that they are in.
fn scale<'a>(value: f64, step: f64, units: &[&'a str]) -> (String, &'a str) {
    let mut value = if value.is_finite() && value > 0.0 { value } else { 0.0 };
    let mut unit = 0;
    // What would round to the next unit's 1 is written in the next unit.
    while value >= step - 0.5 && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let number = if value < 0.05 {
        "0".to_owned()
    } else if unit == 0 && value >= 9.95 || value >= 99.95 {
        format!("{value:.0}")
    } else if unit == 0 || value >= 9.995 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    };
    (number, units.get(unit).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_exact_up_to_five_digits_and_short_above() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(99_999), "99,999");
        assert_eq!(count(100_000), "100k");
        assert_eq!(count(1_234_567), "1.23M");
        assert_eq!(count(999_999), "1.00M");
        assert_eq!(count(u64::MAX), "18.4E");
    }

    #[test]
    fn bytes_are_binary() {
        assert_eq!(bytes(1_023), "1023 B");
        assert_eq!(bytes(1_024), "1.00 KiB");
        assert_eq!(bytes(61 << 20), "61.0 MiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
    }

    #[test]
    fn rates_are_decimal_bits() {
        assert_eq!(bit_rate(0.0), "0 bit/s");
        assert_eq!(bit_rate(150_000.0), "1.20 Mbit/s");
        assert_eq!(bit_rate(f64::NAN), "0 bit/s");
        assert_eq!(bit_rate(f64::INFINITY), "0 bit/s");
    }

    #[test]
    fn slow_events_keep_their_fraction() {
        assert_eq!(per_second(0.0), "0/s");
        assert_eq!(per_second(0.25), "0.2/s");
        assert_eq!(per_second(12.4), "12/s");
        assert_eq!(per_second(999.6), "1.00k/s");
    }

    #[test]
    fn times_and_shares_are_short() {
        assert_eq!((millis(0), millis(9_449), millis(250_000)), ("0.0 ms".into(), "9.4 ms".into(), "250 ms".into()));
        assert_eq!((share(1, 0), share(999, 1_000), share(u64::MAX, u64::MAX)), (100, 99, 100));
    }

    #[test]
    fn durations_have_two_units() {
        assert_eq!(duration(42), "42 s");
        assert_eq!(duration(192), "3 min 12 s");
        assert_eq!(duration(15_120), "4 h 12 min");
        assert_eq!(duration(3 * 86_400 + 4 * 3_600), "3 d 4 h");
    }
}
