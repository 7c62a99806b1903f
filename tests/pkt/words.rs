//! The words of one line of a script, taken one after the other.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::{FromStr, SplitWhitespace};
use std::time::Duration;

/// The longest time that a statement can wait for: what is longer is a slip of the pen.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3_600);

/// The words that are left.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    rest: SplitWhitespace<'a>,
}

impl<'a> Words<'a> {
    pub fn new(line: &'a str) -> Self {
        Self { rest: line.split_whitespace() }
    }

    pub fn peek(&self) -> Option<&'a str> {
        self.rest.clone().next()
    }

    pub fn next(&mut self) -> Option<&'a str> {
        self.rest.next()
    }

    /// Leaves one word out.
    pub fn skip(&mut self) -> &mut Self {
        self.rest.next();
        self
    }

    /// Takes the next word if it is this one.
    pub fn take(&mut self, word: &str) -> bool {
        let is = self.peek() == Some(word);
        if is {
            self.rest.next();
        }
        is
    }

    pub fn exactly(&mut self, word: &str) -> Result<(), String> {
        if self.take(word) { Ok(()) } else { Err(format!("{word:?} is missing")) }
    }

    /// The next word, which is to be `what`.
    pub fn word(&mut self, what: &str) -> Result<&'a str, String> {
        self.next().ok_or_else(|| format!("{what} is missing"))
    }

    pub fn number<N: FromStr>(&mut self, what: &str) -> Result<N, String> {
        let word = self.word(what)?;
        word.parse().map_err(|_| format!("{word:?} is not {what}"))
    }

    /// A number of the range, which is said to whoever leaves it.
    pub fn number_in<N: FromStr + PartialOrd + Display>(
        &mut self,
        what: &str,
        range: RangeInclusive<N>,
    ) -> Result<N, String> {
        let word = self.word(what)?;
        let number = word.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("{word:?} is not {what}, {} to {}", range.start(), range.end()))
    }

    /// A number, or `*` for any.
    pub fn any_or_number(&mut self, what: &str) -> Result<Option<i64>, String> {
        if self.take("*") { Ok(None) } else { self.number(what).map(Some) }
    }

    pub fn duration(&mut self) -> Result<Duration, String> {
        duration(self.word("a duration")?)
    }

    pub fn on_or_off(&mut self) -> Result<bool, String> {
        self.choice("on or off", &[("on", true), ("off", false)])
    }

    /// What the next word stands for.
    pub fn choice<T: Copy>(&mut self, what: &str, choices: &[(&str, T)]) -> Result<T, String> {
        let word = self.word(what)?;
        let found = choices.iter().find(|(name, _)| *name == word);
        found.map(|(_, value)| *value).ok_or_else(|| format!("{word:?} is not {what}"))
    }

    pub fn one_of(&mut self, what: &str, words: &[&'static str]) -> Result<&'static str, String> {
        let word = self.word(what)?;
        let found = words.iter().find(|known| **known == word);
        found.copied().ok_or_else(|| format!("{word:?} is not {what}"))
    }

    /// Nothing is left.
    pub fn end(&mut self) -> Result<(), String> {
        self.next().map_or(Ok(()), |word| Err(format!("{word:?} is one word too many")))
    }
}

/// `10us`, `1.5s`, `2h`.
pub fn duration(word: &str) -> Result<Duration, String> {
    let unit_at = word.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(word.len());
    let (figure, unit) = word.split_at(unit_at);
    let us: u64 = match unit {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "min" => 60_000_000,
        "h" => 3_600_000_000,
        _ => return Err(format!("{word:?} is no time: its unit is us, ms, s, min or h")),
    };
    let (whole, part) = figure.split_once('.').unwrap_or((figure, ""));
    let digits = |text: &str| text.parse::<u64>().ok().filter(|_| text.chars().all(|c| c.is_ascii_digit()));
    let fault = || format!("{word:?} is no time");
    let whole = digits(whole).ok_or_else(fault)?;
    let scale = 10u64.checked_pow(u32::try_from(part.len()).unwrap_or(u32::MAX)).ok_or_else(fault)?;
    let part = if part.is_empty() { 0 } else { digits(part).ok_or_else(fault)? };
    let us = whole.checked_mul(us).and_then(|us| us.checked_add(part.checked_mul(us)? / scale));
    let time = Duration::from_micros(us.ok_or_else(fault)?);
    if time > LONGEST { Err(format!("{word:?} is longer than a script may wait")) } else { Ok(time) }
}
