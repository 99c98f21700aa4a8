//! The date that some chat templates write into the prompt, formatted as Python's `strftime` formats it.

use crate::error::{Result, bail};

/// Names of the days, from Monday.
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
/// Names of the months.
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A day of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

impl Date {
    /// Reads `YYYY-MM-DD`.
    pub fn parse(text: &str) -> Result<Date> {
        let parts: Vec<&str> = text.split('-').collect();
        let digits = |part: &str, count: usize| part.len() == count && part.bytes().all(|byte| byte.is_ascii_digit());
        if let [year, month, day] = parts[..]
            && digits(year, 4)
            && digits(month, 2)
            && digits(day, 2)
            && let (Ok(year), Ok(month), Ok(day)) = (year.parse(), month.parse(), day.parse())
            && year > 0
            && (1..=12).contains(&month)
            && (1..=days_of_month(year, month)).contains(&day)
        {
            return Ok(Date { year, month, day });
        }
        bail!("`{text}` is no date"; help: "write it as `2026-01-31`")
    }

    /// What `strftime` writes for this date at midnight, for the directives that a date answers.
    pub fn format(self, pattern: &str) -> Result<String> {
        let Date { year, month, day } = self;
        let (day_name, month_name) = (DAYS[self.weekday()], MONTHS[usize::from(month) - 1]);
        let mut text = String::new();
        let mut characters = pattern.chars();
        while let Some(character) = characters.next() {
            if character != '%' {
                text.push(character);
                continue;
            }
            let mut directive = characters.next();
            let padded = directive != Some('-');
            if !padded {
                directive = characters.next();
            }
            let number = |value: u16| if padded { format!("{value:02}") } else { value.to_string() };
            text += &match directive {
                Some('Y') => year.to_string(),
                Some('y') => number(year % 100),
                Some('m') => number(month.into()),
                Some('d') => number(day.into()),
                Some('e') => format!("{day:2}"),
                Some('j') if padded => format!("{:03}", self.day_of_year()),
                Some('j') => self.day_of_year().to_string(),
                Some('B') => month_name.to_string(),
                Some('b' | 'h') => month_name[..3].to_string(),
                Some('A') => day_name.to_string(),
                Some('a') => day_name[..3].to_string(),
                Some('F') => format!("{year}-{month:02}-{day:02}"),
                Some('H' | 'M' | 'S') => number(0),
                Some('%') => "%".to_string(),
                _ => bail!("`{pattern}` asks of a date what it does not know"),
            };
        }
        Ok(text)
    }

    fn day_of_year(self) -> u16 {
        (1..self.month).map(|month| u16::from(days_of_month(self.year, month))).sum::<u16>() + u16::from(self.day)
    }

    /// Days since Monday.
    fn weekday(self) -> usize {
        // 1 January of the year 1 was a Monday.
        let years = u32::from(self.year) - 1;
        let days = 365 * years + years / 4 - years / 100 + years / 400 + u32::from(self.day_of_year()) - 1;
        (days % 7) as usize
    }
}

fn days_of_month(year: u16, month: u8) -> u8 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_as_python_writes_it() {
        let date = Date::parse("2024-02-09").unwrap();
        assert_eq!(date.format("%d %b %Y|%B %-d, %Y|%A %a|%y-%m|%j|%e|%F|100%%").unwrap(), {
            "09 Feb 2024|February 9, 2024|Friday Fri|24-02|040| 9|2024-02-09|100%"
        });
        assert_eq!(Date::parse("2026-11-21").unwrap().format("%A %j").unwrap(), "Saturday 325");
        assert!(date.format("%Z").is_err());
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in ["2023-02-29", "2024-13-01", "2024-1-1", "24-01-01", "2024-01-00", "+024-01-01", "today", ""] {
            assert!(Date::parse(text).is_err(), "{text}");
        }
        assert!(Date::parse("2024-02-29").is_ok());
    }
}
