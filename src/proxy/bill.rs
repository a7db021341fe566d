//! What an attempt costs, and what the client is charged for it.
//!
//! The *cost* is what the provider bills; unknown without a price. The *charge* is what the client's budget loses: the cost times the
//! key's markup. Both are whole nano-dollars.

use std::sync::Arc;

use crate::ir::Usage;
use crate::ledger::Ended;
use crate::money::{Extras, Markup, NanoUsd, Price};
use crate::rules::UnknownPrice;

/// By what an attempt is billed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Terms {
    /// It costs nothing (counts of tokens).
    Free,
    /// Its price is known.
    Known(Arc<Price>),
    /// It is not: so much is charged, whatever it uses.
    Ceiling(NanoUsd),
    /// It is not, and nobody's budget depends on it: nothing is charged.
    Unknown,
}

/// Prices and markup of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bill {
    terms: Terms,
    markup: Markup,
    asked: Asked,
}

/// What was asked for, as far as the price depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The service tier.
    pub service: Option<Box<str>>,
    /// Pictures in the prompt, where they have a price.
    pub pictures: u32,
}

/// Both sums of an attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// What the provider bills; `None`: the price is unknown.
    pub cost: Option<NanoUsd>,
    /// What the client is charged.
    pub charge: NanoUsd,
}

impl Amounts {
    /// Nothing was used.
    pub const NOTHING: Amounts = Amounts {
        cost: Some(NanoUsd::ZERO),
        charge: NanoUsd::ZERO,
    };
}

impl Bill {
    /// A bill by these terms.
    pub fn new(terms: Terms, markup: Markup) -> Self {
        Bill {
            terms,
            markup,
            asked: Asked::default(),
        }
    }

    /// The same for what was asked.
    #[must_use]
    pub fn asking(self, asked: Asked) -> Self {
        Bill { asked, ..self }
    }

    /// Pictures in the prompt, where they have a price.
    pub fn pictures(&self) -> u32 {
        self.asked.pictures
    }

    /// What the answer told, completed by what was asked: the service tier where the answer tells none.
    fn complete<'a>(&'a self, told: Extras<'a>) -> Extras<'a> {
        Extras {
            service: told.service.or(self.asked.service.as_deref()),
            images_in: self.asked.pictures,
            ..told
        }
    }

    /// … by the price, if it is known. `None`: it is not, and the request must not be served without. `bounded`: the key has a budget in
    /// money.
    pub fn by(price: Option<&Arc<Price>>, bounded: bool, unknown: UnknownPrice, markup: Markup) -> Option<Self> {
        let terms = match (price, unknown) {
            (Some(price), _) => Terms::Known(price.clone()),
            (None, _) if !bounded => Terms::Unknown,
            (None, UnknownPrice::Ceiling(ceiling)) => Terms::Ceiling(ceiling),
            (None, UnknownPrice::Refuse) => return None,
        };
        Some(Bill::new(terms, markup))
    }

    /// Nobody knows, and nothing is charged.
    pub fn is_unknown(&self) -> bool {
        self.terms == Terms::Unknown
    }

    /// It costs nothing.
    pub fn is_free(&self) -> bool {
        self.terms == Terms::Free
    }

    /// It depends on the number of tokens.
    pub fn is_by_tokens(&self) -> bool {
        matches!(self.terms, Terms::Known(_))
    }

    /// What so much usage comes to. `extras`: what the answer told; of the request, the bill knows itself.
    pub fn used(&self, usage: &Usage, extras: Extras<'_>) -> Amounts {
        match &self.terms {
            Terms::Free => Amounts::NOTHING,
            Terms::Known(price) => {
                let cost = price.cost(usage, self.complete(extras));
                Amounts {
                    cost: Some(cost),
                    charge: self.markup.charge(cost),
                }
            }
            Terms::Ceiling(ceiling) => Amounts {
                cost: None,
                charge: *ceiling,
            },
            Terms::Unknown => Amounts::default(),
        }
    }

    /// What a prompt of so many tokens comes to.
    pub fn prompt(&self, tokens: u64) -> Amounts {
        let usage = Usage {
            input: tokens,
            ..Usage::default()
        };
        self.used(&usage, Extras::default())
    }

    /// What so many tokens are charged at most, and so many pictures in the answer.
    pub fn most(&self, prompt: u64, output: u64, images_out: u32) -> NanoUsd {
        let asked = self.complete(Extras {
            images_out,
            ..Extras::default()
        });
        match &self.terms {
            Terms::Free | Terms::Unknown => NanoUsd::ZERO,
            Terms::Known(price) => self.markup.charge(price.most(prompt, output, asked)),
            Terms::Ceiling(ceiling) => *ceiling,
        }
    }
}

/// By what is known of its end, an attempt is billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// Nothing: the provider did not begin to work, or refused.
    Nothing,
    /// What the provider reported.
    Reported,
    /// An estimate: it reported nothing, or not the last of it.
    Estimated,
    /// The client got nothing and is charged nothing; what the provider bills is estimated by the prompt, if it told nothing.
    Lost,
}

/// How an attempt ended, as far as the bill depends on it.
#[derive(Clone, Copy, Debug, Default)]
pub struct End {
    /// The provider's status.
    pub status: Option<u16>,
    /// Something was sent to it.
    pub sent: bool,
    /// Something of the answer went to the client.
    pub given: bool,
    /// Usage was reported, …
    pub usage: bool,
    /// … and the end of the answer.
    pub finished: bool,
    /// An error was told, and nothing before it.
    pub refused: bool,
    /// The answer says that work goes on.
    pub unfinished: bool,
}

impl End {
    /// By what it is billed.
    pub fn basis(&self, ended: Ended) -> Basis {
        let known = self.usage && !self.unfinished && (self.finished || ended == Ended::Complete);
        match ended {
            _ if !self.sent || self.status.is_some_and(|status| status >= 400) => Basis::Nothing,
            Ended::Complete | Ended::ClientGone if known => Basis::Reported,
            Ended::ClientGone if self.refused && !self.usage => Basis::Nothing,
            Ended::Complete | Ended::ClientGone => Basis::Estimated,
            _ if self.refused && !self.usage => Basis::Nothing,
            _ if !self.given => Basis::Lost,
            _ if known => Basis::Reported,
            _ => Basis::Estimated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::{Class, Listed, Rates, Service};

    #[test]
    fn what_was_asked_completes_what_the_answer_told() {
        let mut listed = Listed {
            rates: Rates::new(1_000_000, 1_000_000),
            input_image: Some(100),
            ..Listed::default()
        };
        for (word, rate) in [("flex", 500_000), ("priority", 3_000_000)] {
            listed.services.push(Service {
                word: word.into(),
                rates: Rates::default().with(Class::Input, rate).with(Class::Output, rate),
                tiers: Vec::new(),
            });
        }
        let price = Arc::new(Price::new(&listed));
        let bill = |service: Option<&str>, pictures| {
            Bill::new(Terms::Known(price.clone()), Markup::default()).asking(Asked {
                service: service.map(Into::into),
                pictures,
            })
        };
        let usage = Usage {
            input: 10,
            ..Usage::default()
        };
        // Asked, told, cost of ten tokens, bound for ten.
        for (asked, told, cost, most) in [
            (None, None, 10, 30),
            (Some("auto"), None, 10, 30),
            (Some("default"), None, 10, 10),
            (Some("flex"), None, 5, 10),
            (Some("priority"), None, 30, 30),
            (Some("priority"), Some("default"), 10, 30),
            (None, Some("priority"), 30, 30),
        ] {
            for pictures in [0, 2] {
                let bill = bill(asked, pictures);
                let extras = Extras {
                    service: told,
                    ..Extras::default()
                };
                let flat = u64::from(pictures) * 100;
                let what = format!("{asked:?} {told:?} {pictures}");
                assert_eq!(bill.used(&usage, extras).charge.0, cost + flat, "{what}");
                assert_eq!(bill.most(10, 0, 0).0, most + flat, "{what}");
                if told.is_none() {
                    assert_eq!(bill.prompt(10).charge.0, cost + flat, "{what}");
                }
            }
        }
    }

    fn price() -> Arc<Price> {
        Arc::new(Rates::new(1_000_000_000, 2_000_000_000).into())
    }

    #[test]
    fn an_unknown_price_is_refused_capped_or_nobodys_business() {
        let by = |price, bounded, unknown| Bill::by(price, bounded, unknown, Markup::default());
        let ceiling = UnknownPrice::Ceiling(NanoUsd(7));
        assert_eq!(by(None, true, UnknownPrice::Refuse), None);
        let usage = Usage {
            input: 5,
            ..Usage::default()
        };
        let sums = |bill: Option<Bill>| {
            let bill = bill.unwrap();
            let used = bill.used(&usage, Extras::default());
            (used.cost, used.charge.0, bill.most(10, 10, 0).0)
        };
        assert_eq!(sums(by(None, true, ceiling)), (None, 7, 7));
        assert_eq!(sums(by(None, false, ceiling)), (None, 0, 0));
        assert_eq!(
            sums(by(Some(&price()), true, ceiling)),
            (Some(NanoUsd(5000)), 5000, 30_000)
        );
    }

    #[test]
    fn the_charge_is_marked_up_and_the_cost_is_not() {
        let bill = Bill::by(Some(&price()), true, UnknownPrice::Refuse, "1.5".parse().unwrap()).unwrap();
        let amounts = bill.prompt(2);
        assert_eq!((amounts.cost, amounts.charge), (Some(NanoUsd(2000)), NanoUsd(3000)));
        assert_eq!(Bill::new(Terms::Free, Markup::default()).prompt(9), Amounts::NOTHING);
    }

    #[test]
    fn what_is_billed_follows_from_how_it_ended() {
        let sent = End {
            status: Some(200),
            sent: true,
            ..End::default()
        };
        let given = End { given: true, ..sent };
        let partly = End { usage: true, ..given };
        let told = End {
            finished: true,
            ..partly
        };
        let cases = [
            (End::default(), Ended::UpstreamFailed, Basis::Nothing),
            (End::default(), Ended::ClientGone, Basis::Nothing),
            (
                End {
                    status: Some(429),
                    ..sent
                },
                Ended::UpstreamError,
                Basis::Nothing,
            ),
            (partly, Ended::Complete, Basis::Reported),
            (given, Ended::Complete, Basis::Estimated),
            (
                End {
                    unfinished: true,
                    ..partly
                },
                Ended::Complete,
                Basis::Estimated,
            ),
            (sent, Ended::ClientGone, Basis::Estimated),
            (partly, Ended::ClientGone, Basis::Estimated),
            (told, Ended::ClientGone, Basis::Reported),
            (End { refused: true, ..sent }, Ended::ClientGone, Basis::Nothing),
            (sent, Ended::UpstreamBroke, Basis::Lost),
            (sent, Ended::TimedOut, Basis::Lost),
            (given, Ended::UpstreamBroke, Basis::Estimated),
            (told, Ended::UpstreamBroke, Basis::Reported),
            (partly, Ended::TimedOut, Basis::Estimated),
            (End { refused: true, ..given }, Ended::UpstreamBroke, Basis::Nothing),
        ];
        for (end, ended, want) in cases {
            assert_eq!(end.basis(ended), want, "{end:?} {ended:?}");
        }
    }
}
