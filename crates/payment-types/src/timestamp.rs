//! Points in time. Nothing here reads a clock: callers bring the time with them.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use serde::{Deserialize, Serialize};

/// A point in time in UTC, to the millisecond. RFC 3339 in JSON.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(i64);

/// The text is not a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a point in time: write it like 2026-11-21T12:00:00Z")]
pub struct TimestampError;

/// A point in time in the pieces that card data uses, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calendar {
    /// Year, such as 2026.
    pub year: u16,
    /// Month, 1 to 12.
    pub month: u8,
    /// Day of the month, 1 to 31.
    pub day: u8,
    /// Hour, 0 to 23.
    pub hour: u8,
    /// Minute, 0 to 59.
    pub minute: u8,
    /// Second, 0 to 59.
    pub second: u8,
    /// Day of the year, 1 to 366.
    pub day_of_year: u16,
}

impl Timestamp {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn from_unix_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// The beginning of a minute, UTC; `None` if the calendar has no such minute.
    #[must_use]
    pub fn at_minute(year: u16, month: u8, day: u8, hour: u8, minute: u8) -> Option<Self> {
        let (month, day) = (i8::try_from(month).ok()?, i8::try_from(day).ok()?);
        let (hour, minute) = (i8::try_from(hour).ok()?, i8::try_from(minute).ok()?);
        let year = i16::try_from(year).ok()?;
        let moment = DateTime::new(year, month, day, hour, minute, 0, 0).ok()?;
        // Not by way of jiff::Timestamp, which ends a day before the calendar does.
        let epoch = Offset::UTC.to_datetime(jiff::Timestamp::UNIX_EPOCH);
        i64::try_from(moment.duration_since(epoch).as_millis()).ok().map(Self)
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn unix_millis(self) -> i64 {
        self.0
    }

    /// A point in time this many milliseconds later; stays at the end of time if it would pass it.
    #[must_use]
    pub const fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// A point in time this many seconds later.
    #[must_use]
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000)))
    }

    /// How many milliseconds have passed since `earlier`; negative if it is later.
    #[must_use]
    pub const fn millis_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The pieces of the date and the time of day. Years outside 0 to 9999 count as 1970.
    #[must_use]
    pub fn calendar(self) -> Calendar {
        let moment = self.moment();
        Calendar {
            year: u16::try_from(moment.year()).unwrap_or(1970),
            month: u8::try_from(moment.month()).unwrap_or(1),
            day: u8::try_from(moment.day()).unwrap_or(1),
            hour: u8::try_from(moment.hour()).unwrap_or(0),
            minute: u8::try_from(moment.minute()).unwrap_or(0),
            second: u8::try_from(moment.second()).unwrap_or(0),
            day_of_year: u16::try_from(moment.date().day_of_year()).unwrap_or(1),
        }
    }

    fn moment(self) -> DateTime {
        let timestamp = jiff::Timestamp::from_millisecond(self.0);
        let moment = Offset::UTC.to_datetime(timestamp.unwrap_or(jiff::Timestamp::UNIX_EPOCH));
        if moment.year() < 0 {
            Offset::UTC.to_datetime(jiff::Timestamp::UNIX_EPOCH)
        } else {
            moment
        }
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        // jiff also reads a space for the T and a zone in brackets; RFC 3339 interchange does not.
        let is_rfc_3339 = text.as_bytes().get(10) == Some(&b'T') && !text.contains('[');
        if !is_rfc_3339 {
            return Err(TimestampError);
        }
        let timestamp: jiff::Timestamp = text.parse().map_err(|_| TimestampError)?;
        // An offset can carry the first day of year 0 into a year that cannot be written.
        if Offset::UTC.to_datetime(timestamp).year() < 0 {
            return Err(TimestampError);
        }
        Ok(Self(timestamp.as_millisecond()))
    }
}

impl TryFrom<String> for Timestamp {
    type Error = TimestampError;

    fn try_from(text: String) -> Result<Self, TimestampError> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(timestamp: Timestamp) -> Self {
        alloc::format!("{timestamp}")
    }
}

impl fmt::Display for Timestamp {
    /// Always with three digits behind the second, so that text sorts as time does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}Z", self.moment())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::Timestamp;
    use proptest::prelude::*;

    #[test]
    fn reads_and_writes_rfc_3339() {
        let noon: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        assert_eq!(noon.unix_millis(), 1_795_262_400_000);
        assert_eq!(noon.to_string(), "2026-11-21T12:00:00.000Z");
        assert_eq!("2026-11-21T14:00:00+02:00".parse::<Timestamp>().unwrap(), noon);
        assert_eq!(noon.plus_millis(5).to_string(), "2026-11-21T12:00:00.005Z");
    }

    #[test]
    fn pieces_of_the_calendar() {
        let calendar = "2024-12-31T23:59:58Z".parse::<Timestamp>().unwrap().calendar();
        assert_eq!((calendar.year, calendar.month, calendar.day), (2024, 12, 31));
        assert_eq!((calendar.hour, calendar.minute, calendar.second), (23, 59, 58));
        assert_eq!(calendar.day_of_year, 366);
    }

    #[test]
    fn a_minute_of_the_calendar() {
        let minute = Timestamp::at_minute(2028, 2, 29, 23, 59).unwrap();
        assert_eq!(minute.to_string(), "2028-02-29T23:59:00.000Z");
        assert!(Timestamp::at_minute(9999, 12, 31, 23, 59).is_some());
        for (month, day, hour, minute) in
            [(2, 29, 0, 0), (13, 1, 0, 0), (0, 1, 0, 0), (1, 0, 0, 0), (1, 1, 24, 0), (1, 1, 0, 60)]
        {
            assert_eq!(Timestamp::at_minute(2026, month, day, hour, minute), None);
        }
    }

    #[test]
    fn what_cannot_be_written_is_not_read() {
        assert!("0000-01-01T00:00:00Z".parse::<Timestamp>().is_ok());
        assert!("0000-01-01T00:00:00+23:59".parse::<Timestamp>().is_err());
        assert!("9999-12-31T23:59:59-23:59".parse::<Timestamp>().is_err());
    }

    proptest! {
        #[test]
        fn text_round_trip(millis in 0_i64..253_402_207_200_999) {
            let timestamp = Timestamp::from_unix_millis(millis);
            prop_assert_eq!(timestamp.to_string().parse::<Timestamp>().unwrap(), timestamp);
        }

        #[test]
        fn any_text_is_answered(text in ".*") {
            let _ = text.parse::<Timestamp>();
        }

        #[test]
        fn any_number_has_a_calendar(millis in any::<i64>()) {
            let _ = Timestamp::from_unix_millis(millis).calendar();
        }
    }
}
