//! Rates: what a million tokens of each class cost, as far as it is written, and how the rest follows.

/// A class of tokens with a rate of its own. They are disjoint: a token has one rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Prompt tokens that no cache held.
    Input,
    /// Prompt tokens read from a cache.
    CacheRead,
    /// Prompt tokens written to a cache, for five minutes or for an unnamed time.
    CacheWrite,
    /// Prompt tokens written to a cache for an hour.
    CacheWrite1h,
    /// Sound in the prompt that no cache held.
    InputAudio,
    /// Sound in the prompt, read from a cache.
    CachedAudio,
    /// Visible output.
    Output,
    /// Output spent on reasoning.
    Reasoning,
    /// Sound in the answer.
    OutputAudio,
    /// Pictures in the answer, where the provider counts their tokens.
    OutputImage,
}

impl Class {
    /// How many there are.
    pub const COUNT: usize = 10;

    /// All, in the order of [`Class::place`].
    pub const ALL: [Class; Class::COUNT] = [
        Class::Input,
        Class::CacheRead,
        Class::CacheWrite,
        Class::CacheWrite1h,
        Class::InputAudio,
        Class::CachedAudio,
        Class::Output,
        Class::Reasoning,
        Class::OutputAudio,
        Class::OutputImage,
    ];

    /// The field of `[[price]]`.
    pub const fn field(self) -> &'static str {
        match self {
            Class::Input => "input",
            Class::CacheRead => "cached",
            Class::CacheWrite => "cache_write",
            Class::CacheWrite1h => "cache_write_1h",
            Class::InputAudio => "input_audio",
            Class::CachedAudio => "cached_audio",
            Class::Output => "output",
            Class::Reasoning => "reasoning",
            Class::OutputAudio => "output_audio",
            Class::OutputImage => "output_image_tokens",
        }
    }

    /// Where it stands among [`Class::ALL`].
    pub const fn place(self) -> usize {
        self as usize
    }

    /// Whether its tokens are of the prompt.
    pub const fn is_input(self) -> bool {
        self.place() < Class::Output.place()
    }

    /// The plain class of its side of the bill.
    const fn plain(self) -> Class {
        if self.is_input() { Class::Input } else { Class::Output }
    }

    /// Whose rate it has where none is written. It stands before this class.
    const fn follows(self) -> Option<Class> {
        match self {
            Class::Input | Class::Output => None,
            Class::CacheRead | Class::CacheWrite | Class::InputAudio => Some(Class::Input),
            Class::CacheWrite1h => Some(Class::CacheWrite),
            Class::CachedAudio => Some(Class::CacheRead),
            Class::Reasoning | Class::OutputAudio | Class::OutputImage => Some(Class::Output),
        }
    }
}

/// Rates in nano-dollars (10^-9 USD) for a million tokens, as far as they are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates([Option<u64>; Class::COUNT]);

impl Rates {
    /// The two that every model has.
    pub fn new(input: u64, output: u64) -> Self {
        Rates::default().with(Class::Input, input).with(Class::Output, output)
    }

    /// These, and one more.
    #[must_use]
    pub fn with(mut self, class: Class, rate: u64) -> Self {
        self.set(class, Some(rate));
        self
    }

    /// Writes one, or takes it back.
    pub fn set(&mut self, class: Class, rate: Option<u64>) {
        self.0[class.place()] = rate;
    }

    /// One of them, if it is written.
    pub fn get(&self, class: Class) -> Option<u64> {
        self.0[class.place()]
    }

    /// True if none is written.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

/// A rate for each class.
pub(super) type Full = [u64; Class::COUNT];

/// The standard rates. What is not written is as the class it follows; plain input and output as nothing.
pub(super) fn standard(written: &Rates) -> Full {
    let mut full = Full::default();
    for class in Class::ALL {
        let follows = class.follows().map_or(0, |other| full[other.place()]);
        full[class.place()] = written.get(class).unwrap_or(follows);
    }
    full
}

/// The rates of a tier over those it stands on. What is not written changes as the plain class of its side does: a tier that
/// doubles the input doubles cache reads too. So all providers with tiers do ("input and cache rates", OpenAI's page on
/// prices; Gemini's and xAI's tables; Anthropic's multipliers of the base price).
pub(super) fn over(base: &Full, written: &Rates) -> Full {
    let mut full = *base;
    for class in Class::ALL {
        let plain = class.plain();
        let from = base[plain.place()];
        let to = written.get(plain).unwrap_or(from);
        let scaled = || scale(base[class.place()], to, from);
        full[class.place()] = written.get(class).unwrap_or_else(scaled);
    }
    full
}

/// The rates of a service tier for long prompts: as long prompts change the standard rates.
pub(super) fn long(service: &Full, standard: &Full, standard_long: &Full) -> Full {
    let mut full = *service;
    for class in Class::ALL {
        let place = class.place();
        full[place] = scale(service[place], standard_long[place], standard[place]);
    }
    full
}

/// `rate * to / from`, rounded up; `rate` itself where nothing costs nothing.
fn scale(rate: u64, to: u64, from: u64) -> u64 {
    if from == 0 || to == from {
        return rate;
    }
    let scaled = (u128::from(rate) * u128::from(to)).div_ceil(u128::from(from));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_of_the_list() {
        for (place, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(class.place(), place);
            assert!(class.follows().is_none_or(|other| other.place() < place), "{class:?}");
        }
        assert_eq!(Class::ALL.iter().filter(|class| class.is_input()).count(), 6);
    }

    #[test]
    fn what_is_not_written_follows() {
        let full = standard(&Rates::new(10, 40).with(Class::CacheRead, 1).with(Class::CacheWrite, 12));
        assert_eq!(full, [10, 1, 12, 12, 10, 1, 40, 40, 40, 40]);
        let tier = over(&full, &Rates::new(20, 60));
        assert_eq!(tier, [20, 2, 24, 24, 20, 2, 60, 60, 60, 60]);
        let written = over(&full, &Rates::new(20, 60).with(Class::CacheRead, 3));
        assert_eq!(written[Class::CacheRead.place()], 3, "what is written stands");
        let half = over(&full, &Rates::new(5, 20));
        assert_eq!(
            long(&half, &full, &tier),
            [10, 2, 12, 12, 10, 2, 30, 30, 30, 30],
            "rounded up"
        );
        assert_eq!(over(&Full::default(), &Rates::new(5, 0))[Class::CacheRead.place()], 0);
    }
}
