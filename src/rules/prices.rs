//! `[[price]]`: what models cost, in whole nano-dollars, by provider, model and day.

use std::collections::HashMap;
use std::sync::Arc;

use crate::clock::UnixMicros;
use crate::config::fields::Fields;
use crate::config::value::Value;
use crate::money::{Class, Listed, Price, Rates, Service, Tier};

use super::patterns::{MAX_PATTERN, is_name};
use super::table::{ByModel, Line};
use super::tables::{Beside, Row};

/// Digits after the point of a price in dollars: nano-dollars.
const DIGITS: u32 = 9;
/// Largest price, in nano-dollars: a million dollars. More is a mistake in the unit.
const MAX_PRICE: u64 = 1_000_000 * 1_000_000_000;
/// Most tiers by length of the prompt. Providers have one or two.
const MAX_TIERS: usize = 8;
/// Most service tiers.
const MAX_SERVICES: usize = 8;
/// Longest word of a service tier, in bytes.
const MAX_WORD: usize = 32;
/// Longest prompt a tier may begin at, in tokens.
const MAX_PROMPT: u64 = 1_000_000_000;

/// Most entries of prices, over all files.
pub const MAX_ENTRIES: usize = super::tables::MAX_LINES;

/// Whether an entry could say so: the name is one and no glob, the numbers are within their bounds.
pub fn is_sayable(model: &str, listed: &Listed) -> bool {
    let tiers = listed
        .services
        .iter()
        .flat_map(|service| &service.tiers)
        .chain(&listed.tiers);
    let rates = tiers
        .clone()
        .map(|tier| &tier.rates)
        .chain(listed.services.iter().map(|service| &service.rates));
    let each = rates
        .chain([&listed.rates])
        .flat_map(|rates| Class::ALL.map(|class| rates.get(class)));
    let flat = [listed.input_image, listed.output_image, listed.request];
    let counts = listed
        .services
        .iter()
        .map(|service| &service.tiers)
        .chain([&listed.tiers])
        .map(Vec::len);
    is_name(model)
        && (1..=MAX_PATTERN).contains(&model.len())
        && !model.contains(char::is_control)
        && each.chain(flat).flatten().all(|price| price <= MAX_PRICE)
        && tiers.clone().all(|tier| (1..=MAX_PROMPT).contains(&tier.above))
        && counts.clone().all(|count| count <= MAX_TIERS)
        && listed.services.len() <= MAX_SERVICES
}

/// All prices.
#[derive(Debug, Default)]
pub struct PriceTable(ByModel<Box<[Dated]>>);

/// A price and when it holds.
#[derive(Clone, Debug)]
struct Dated {
    from: UnixMicros,
    until: UnixMicros,
    price: Arc<Price>,
}

impl Dated {
    fn holds(&self, at: UnixMicros) -> bool {
        self.from <= at && at < self.until
    }
}

/// One line: a price, and when it is said to hold.
pub(super) struct Entry {
    price: Price,
    from: Option<UnixMicros>,
    until: Option<UnixMicros>,
}

impl PriceTable {
    /// Sorts the entries. An error is a glob's own, or that they are too large together.
    pub(super) fn new(lines: Vec<Line<Entry>>) -> Result<Self, globset::Error> {
        // Lines of one name stand together, at the place of the first.
        let mut places: HashMap<(Option<Box<str>>, String), usize> = HashMap::new();
        let mut all: Vec<Line<Vec<Dated>>> = Vec::new();
        for line in lines {
            let dated = Dated {
                from: line.value.from.unwrap_or(UnixMicros(i64::MIN)),
                until: line.value.until.unwrap_or(UnixMicros(i64::MAX)),
                price: Arc::new(line.value.price),
            };
            for name in line.names {
                let place = *places.entry((line.provider.clone(), name.clone())).or_insert(all.len());
                match all.get_mut(place) {
                    Some(known) => known.value.push(dated.clone()),
                    None => all.push(Line {
                        provider: line.provider.clone(),
                        names: vec![name],
                        value: vec![dated.clone()],
                    }),
                }
            }
        }
        let sorted = all.into_iter().map(|mut line| {
            // The later `from` wins.
            line.value.sort_by_key(|dated| std::cmp::Reverse(dated.from));
            Line {
                provider: line.provider,
                names: line.names,
                value: line.value.into(),
            }
        });
        ByModel::new(sorted.collect()).map(PriceTable)
    }

    /// The price of a model by the name its provider needs, as it holds at a time. Of the entries that hold then, one for the
    /// provider wins over one for all, then the very name over a glob, then the later `from`, then the earlier entry. `None`:
    /// unknown.
    pub fn price(&self, provider: &str, model: &str, at: UnixMicros) -> Option<&Price> {
        self.shared(provider, model, at).map(|price| &**price)
    }

    /// The same, to be kept.
    pub fn shared(&self, provider: &str, model: &str, at: UnixMicros) -> Option<&Arc<Price>> {
        self.0.find(provider, model, |all| {
            all.iter().find(|dated| dated.holds(at)).map(|dated| &dated.price)
        })
    }

    /// Whether there is a price at some time.
    pub fn knows(&self, provider: &str, model: &str) -> bool {
        self.0.get(provider, model).is_some()
    }
}

impl Row for Entry {
    const SECTION: &'static str = "price";

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let mut listed = Listed {
            rates: rates(fields),
            ..Listed::default()
        };
        let mut each = |name| fields.get(name)?.decimal(DIGITS, 0..=MAX_PRICE);
        listed.input_image = each("input_image");
        listed.output_image = each("output_image");
        listed.request = each("request");
        if let Some(value) = fields.get("tiers") {
            listed.tiers = tiers(&value);
        }
        for (word, value) in fields.table("services").entries() {
            listed.services.extend(service(word, &value, listed.services.len()));
        }
        let (from, until) = (fields.get("from"), fields.get("until"));
        let (since, end) = (from.as_ref().and_then(day), until.as_ref().and_then(day));
        if let (Some(since), Some(end), Some(until)) = (since, end, &until)
            && end <= since
        {
            until.problem("it must be later than `from`: the entry would never hold");
        }
        let mut complete = true;
        for (class, example) in [
            (Class::Input, "0.25, in dollars for a million tokens"),
            (
                Class::Output,
                "2, in dollars for a million tokens (0 where there is none)",
            ),
        ] {
            complete &= listed.rates.get(class).is_some();
            if !fields.has(class.field()) {
                fields.need(class.field(), &format!("{} = {example}", class.field()));
            }
        }
        complete.then(|| Entry {
            price: Price::new(&listed),
            from: since,
            until: end,
        })
    }

    fn beside(&self, earlier: &Self) -> Beside {
        let start = |entry: &Self| entry.from.unwrap_or(UnixMicros(i64::MIN));
        let (first, second) = match start(self) >= start(earlier) {
            true => (earlier, self),
            false => (self, earlier),
        };
        if start(first) == start(second) {
            Beside::Never
        } else if first.until.is_some_and(|until| until > start(second)) {
            Beside::Warned("both hold for a while; from the later `from` on only that one is used")
        } else {
            Beside::Fine
        }
    }
}

/// Every rate that is written.
fn rates(fields: &mut Fields<'_>) -> Rates {
    let mut rates = Rates::default();
    for class in Class::ALL {
        let rate = fields
            .get(class.field())
            .and_then(|value| value.decimal(DIGITS, 0..=MAX_PRICE));
        rates.set(class, rate);
    }
    rates
}

/// `tiers = [{ above = 200_000, input = 4 }]`.
fn tiers(value: &Value<'_>) -> Vec<Tier> {
    let all = value.list().unwrap_or_default();
    if all.len() > MAX_TIERS {
        value.problem(format!("there may be {MAX_TIERS} tiers at most"));
    }
    let mut tiers: Vec<Tier> = Vec::new();
    for value in all.iter().take(MAX_TIERS) {
        let Some(mut fields) = value.table() else { continue };
        let place = fields.need("above", "above = 200_000, in tokens of the prompt");
        let above = place.as_ref().and_then(|value| value.integer(1..=MAX_PROMPT));
        let rates = rates(&mut fields);
        if rates.is_empty() {
            fields.problem("no price changes there. Write input = 4, output = 15 and what else differs.");
        }
        fields.finish();
        let Some(above) = above else { continue };
        if tiers.iter().any(|tier| tier.above == above) {
            value.problem("there is a tier above as many tokens already");
        }
        tiers.push(Tier { above, rates });
    }
    tiers
}

/// `services.flex = { input = 1, output = 5 }`. `before`: how many there are already.
fn service(word: &str, value: &Value<'_>, before: usize) -> Option<Service> {
    if before == MAX_SERVICES {
        value.problem(format!("there may be {MAX_SERVICES} service tiers at most"));
        return None;
    }
    if word.is_empty() || word.len() > MAX_WORD || word.bytes().any(|b| b.is_ascii_uppercase()) {
        value.problem(format!(
            "the word of a service tier has 1 to {MAX_WORD} bytes and no capitals: batch, flex, priority, fast"
        ));
    }
    let mut fields = value.table()?;
    let rates = rates(&mut fields);
    let tiers = fields.get("tiers").map(|value| tiers(&value)).unwrap_or_default();
    if rates.is_empty() && tiers.is_empty() {
        fields.problem("no price differs there. Write input = 1, output = 5 and what else differs.");
    }
    fields.finish();
    Some(Service {
        word: word.to_owned(),
        rates,
        tiers,
    })
}

/// The beginning of a day in UTC, `2026-11-21`, or a time, `2026-11-21T14:00:00+02:00`.
fn day(value: &Value<'_>) -> Option<UnixMicros> {
    let text = value.string()?;
    let midnight = || {
        let day = text
            .parse::<jiff::civil::Date>()
            .ok()
            .filter(|_| text.len() == "2026-11-21".len())?;
        day.to_zoned(jiff::tz::TimeZone::UTC)
            .ok()
            .map(|zoned| zoned.timestamp())
    };
    let time = midnight().or_else(|| text.parse::<jiff::Timestamp>().ok());
    if time.is_none() {
        value.problem("it must be a day, as in \"2026-11-21\" (it begins at midnight UTC), or a time with its zone");
    }
    time.map(|time| UnixMicros(time.as_microsecond()))
}
