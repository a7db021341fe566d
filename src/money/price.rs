//! What a model costs at a provider, and what an answer of it cost.

use crate::ir::Usage;

use super::NanoUsd;
use super::rates::{Class, Full, Rates, long, over, standard};

/// Tokens prices are given for.
const MILLION: u128 = 1_000_000;

/// A price as it is written: what is not said follows from what is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// The standard rates.
    pub rates: Rates,
    /// Rates for longer prompts.
    pub tiers: Vec<Tier>,
    /// Rates of other service tiers.
    pub services: Vec<Service>,
    /// A picture in the prompt, in nano-dollars, beside its tokens.
    pub input_image: Option<u64>,
    /// A picture in the answer, in nano-dollars, instead of its tokens where they are told apart.
    pub output_image: Option<u64>,
    /// A request, in nano-dollars.
    pub request: Option<u64>,
}

/// Rates for a prompt of more than so many tokens: of the whole request, its output too, not only of the tokens beyond
/// (OpenAI's and Google's pages on prices: "for prompts > 200k tokens"; "for the full request").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tier {
    /// All tokens of the prompt, cached ones too, must be more than this.
    pub above: u64,
    /// What changes; the rest changes as plain input and output do.
    pub rates: Rates,
}

/// Rates of a service tier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Its word: `batch`, `flex`, `priority`, `fast` ...
    pub word: String,
    /// What differs from the standard; the rest differs as plain input and output do.
    pub rates: Rates,
    /// What differs for longer prompts; the rest is as the standard's longer prompts are to its usual ones.
    pub tiers: Vec<Tier>,
}

/// Prices of one model at one provider, complete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Price {
    standard: Sheets,
    services: Box<[(Box<str>, Sheets)]>,
    input_image: u64,
    output_image: u64,
    request: u64,
}

/// The rates of one service, by length of the prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sheets {
    usual: Sheet,
    /// Ascending; each is for prompts above its number.
    longer: Box<[(u64, Sheet)]>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sheet {
    rates: Full,
    /// The dearest of each side.
    input: u64,
    output: u64,
}

/// What beside tokens decides what an answer cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras<'a> {
    /// The service tier which the provider says it used (`batch`, `flex`, `priority`), else the one asked for.
    pub service: Option<&'a str>,
    /// Pictures in the prompt.
    pub images_in: u32,
    /// Pictures in the answer.
    pub images_out: u32,
    /// Of [`Usage::cache_read`], tokens of sound.
    pub cached_audio: u64,
    /// Of [`Usage::output`], tokens of pictures.
    pub image_tokens: u64,
}

impl From<Rates> for Price {
    fn from(rates: Rates) -> Self {
        Price::new(&Listed {
            rates,
            ..Listed::default()
        })
    }
}

impl Price {
    /// Completes what is written.
    pub fn new(listed: &Listed) -> Self {
        let mut rates = listed.rates;
        if listed.output_image.is_some() && rates.get(Class::OutputImage).is_none() {
            // The picture is paid for, and so not its tokens.
            rates.set(Class::OutputImage, Some(0));
        }
        let usual = standard(&rates);
        let standard = Sheets::new(
            usual,
            listed.tiers.iter().map(|tier| (tier.above, over(&usual, &tier.rates))),
        );
        let services = listed.services.iter().map(|service| {
            let own = over(&usual, &service.rates);
            let mut steps: Vec<u64> = listed
                .tiers
                .iter()
                .chain(&service.tiers)
                .map(|tier| tier.above)
                .collect();
            steps.sort_unstable();
            steps.dedup();
            let longer = steps.into_iter().map(|above| {
                let base = long(&own, &usual, &standard.at(above.saturating_add(1)).rates);
                let written = service.tiers.iter().find(|tier| tier.above == above);
                (above, written.map_or(base, |tier| over(&base, &tier.rates)))
            });
            (service.word.to_ascii_lowercase().into(), Sheets::new(own, longer))
        });
        Price {
            services: services.collect(),
            standard,
            input_image: listed.input_image.unwrap_or(0),
            output_image: listed.output_image.unwrap_or(0),
            request: listed.request.unwrap_or(0),
        }
    }

    /// A standard rate for prompts of usual length, in nano-dollars for a million tokens.
    pub fn rate(&self, class: Class) -> u64 {
        self.standard.usual.rates[class.place()]
    }

    /// Pictures in the prompt have a price of their own.
    pub fn counts_pictures(&self) -> bool {
        self.input_image > 0
    }

    /// Some service tier has rates of its own.
    pub fn has_services(&self) -> bool {
        !self.services.is_empty()
    }

    /// What so many tokens may be expected to cost, rounded up: at standard rates, nothing cached, no reasoning apart. To
    /// compare prices with; [`Price::most`] is the bound.
    pub fn estimate(&self, input: u64, output: u64) -> NanoUsd {
        let rates = &self.standard.at(input).rates;
        let cost = tokens(input, rates[Class::Input.place()]);
        let cost = cost.saturating_add(tokens(output, rates[Class::Output.place()]));
        round_up(cost.saturating_add(u128::from(self.request) * MILLION))
    }

    /// What a request with at most so many tokens can cost, rounded up: the bound of [`Price::cost`] for every usage within
    /// them, at every rate that could apply. `asked.service` is the service tier asked for: where none or `auto` is, the
    /// provider may use any; else that one, or fall back to its standard. Its pictures are those there can be at most.
    pub fn most(&self, input: u64, output: u64, asked: Extras<'_>) -> NanoUsd {
        let any = asked
            .service
            .is_none_or(|word| word.is_empty() || word.eq_ignore_ascii_case("auto"));
        let of = |sheets: &Sheets| sheets.most(input, output);
        let mut most = of(&self.standard);
        if any {
            most = self.services.iter().map(|(_, sheets)| of(sheets)).fold(most, u128::max);
        } else {
            most = most.max(of(self.sheets(asked.service)));
        }
        round_up(most.saturating_add(self.flat(asked)))
    }

    /// What an answer cost, rounded up once to a nano-dollar. For attempts the provider answered: what it refused costs
    /// nothing, a price per request neither.
    pub fn cost(&self, usage: &Usage, extras: Extras<'_>) -> NanoUsd {
        let rates = &self.sheets(extras.service).at(usage.input_total()).rates;
        let cached_audio = extras.cached_audio.min(usage.cache_read);
        let image_tokens = extras.image_tokens.min(usage.output);
        // In the order of `Class::ALL`.
        let counts: Full = [
            usage.input,
            usage.cache_read - cached_audio,
            usage.cache_write_5m,
            usage.cache_write_1h,
            usage.input_audio,
            cached_audio,
            usage.output - image_tokens,
            usage.reasoning,
            usage.output_audio,
            image_tokens,
        ];
        let each = counts.iter().zip(rates).map(|(count, rate)| tokens(*count, *rate));
        round_up(each.fold(self.flat(extras), u128::saturating_add))
    }

    /// What has a price beside tokens, in the unit of [`tokens`].
    fn flat(&self, extras: Extras<'_>) -> u128 {
        let images_in = tokens(u64::from(extras.images_in), self.input_image);
        let images_out = tokens(u64::from(extras.images_out), self.output_image);
        let flat = images_in
            .saturating_add(images_out)
            .saturating_add(u128::from(self.request));
        flat.saturating_mul(MILLION)
    }

    /// The rates of a service tier. A word without rates of its own is the standard: `default`, `standard`, `on_demand` ...
    /// `fast` is what some call `priority` (OpenAI's reference, `service_tier`).
    fn sheets(&self, service: Option<&str>) -> &Sheets {
        let named = |word: &str| {
            let mut all = self.services.iter();
            all.find(|(name, _)| name.eq_ignore_ascii_case(word))
                .map(|(_, sheets)| sheets)
        };
        let found = service.filter(|_| !self.services.is_empty()).and_then(|word| {
            let other = || word.eq_ignore_ascii_case("fast").then(|| named("priority")).flatten();
            named(word).or_else(other)
        });
        found.unwrap_or(&self.standard)
    }
}

impl Sheets {
    fn new(usual: Full, longer: impl Iterator<Item = (u64, Full)>) -> Self {
        let mut longer: Vec<_> = longer.map(|(above, rates)| (above, Sheet::new(rates))).collect();
        longer.sort_by_key(|(above, _)| *above);
        Sheets {
            usual: Sheet::new(usual),
            longer: longer.into(),
        }
    }

    /// The rates for a prompt of so many tokens.
    fn at(&self, prompt: u64) -> &Sheet {
        let longer = self.longer.iter().rev().find(|(above, _)| prompt > *above);
        longer.map_or(&self.usual, |(_, sheet)| sheet)
    }

    /// The most that so many tokens can cost, whichever of the tiers up to there applies.
    fn most(&self, input: u64, output: u64) -> u128 {
        let longer = self.longer.iter().take_while(|(above, _)| input > *above);
        let all = longer.map(|(_, sheet)| sheet).chain([&self.usual]);
        let cost = |sheet: &Sheet| tokens(input, sheet.input).saturating_add(tokens(output, sheet.output));
        all.map(cost).fold(0, u128::max)
    }
}

impl Sheet {
    fn new(rates: Full) -> Self {
        let (input, output) = rates.split_at(Class::Output.place());
        let dearest = |rates: &[u64]| rates.iter().copied().max().unwrap_or(0);
        Sheet {
            input: dearest(input),
            output: dearest(output),
            rates,
        }
    }
}

/// Millionths of nano-dollars.
fn tokens(count: u64, rate: u64) -> u128 {
    u128::from(count) * u128::from(rate)
}

fn round_up(millionths: u128) -> NanoUsd {
    NanoUsd(u64::try_from(millionths.div_ceil(MILLION)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
