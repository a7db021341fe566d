use proptest::prelude::*;

use super::*;

const DOLLAR: u64 = 1_000_000_000;

/// Two dollars a million in, ten out, all else its own.
fn whole() -> Listed {
    let cents = DOLLAR / 100;
    let rates = [200, 20, 250, 400, 600, 60, 1000, 1200, 2000, 3000];
    let rates = Class::ALL.into_iter().zip(rates);
    Listed {
        rates: rates.fold(Rates::default(), |all, (class, rate)| all.with(class, rate * cents)),
        tiers: vec![
            Tier {
                above: 200_000,
                rates: Rates::new(4 * DOLLAR, 15 * DOLLAR),
            },
            Tier {
                above: 500_000,
                rates: Rates::new(8 * DOLLAR, 30 * DOLLAR).with(Class::CacheRead, DOLLAR),
            },
        ],
        services: vec![
            Service {
                word: "flex".into(),
                rates: Rates::new(DOLLAR, 5 * DOLLAR),
                tiers: Vec::new(),
            },
            Service {
                word: "priority".into(),
                rates: Rates::new(4 * DOLLAR, 20 * DOLLAR),
                tiers: vec![Tier {
                    above: 200_000,
                    rates: Rates::new(5 * DOLLAR, 16 * DOLLAR),
                }],
            },
        ],
        input_image: Some(1_000_000),
        output_image: Some(40_000_000),
        request: Some(500),
    }
}

/// One class of the tokens.
type ClassOf = fn(&mut Usage) -> &mut u64;

#[test]
fn each_class_has_its_rate() {
    let mut listed = whole();
    listed.tiers.clear();
    let price = Price::new(&listed);
    // In cents, without the price of the request itself.
    let cents = |usage: Usage, extras: Extras<'_>| (price.cost(&usage, extras).0 - 500) / (DOLLAR / 100);
    let none = Extras::default;
    let million = |class: ClassOf| {
        let mut usage = Usage::default();
        *class(&mut usage) = 1_000_000;
        usage
    };
    let classes: [(ClassOf, u64); 8] = [
        (|usage| &mut usage.input, 200),
        // Cached tokens are not billed in full.
        (|usage| &mut usage.cache_read, 20),
        (|usage| &mut usage.cache_write_5m, 250),
        (|usage| &mut usage.cache_write_1h, 400),
        (|usage| &mut usage.input_audio, 600),
        (|usage| &mut usage.output, 1000),
        (|usage| &mut usage.reasoning, 1200),
        (|usage| &mut usage.output_audio, 2000),
    ];
    for (class, rate) in classes {
        let usage = million(class);
        assert_eq!(cents(usage, none()), rate, "{usage:?}");
    }
    let sound = Extras {
        cached_audio: 1_000_000,
        ..none()
    };
    let cached = million(|usage| &mut usage.cache_read);
    assert_eq!(cents(cached + cached, sound), 20 + 60);
    assert_eq!(cents(Usage::default(), sound), 0, "a part is never more than its class");
    let pictures = Extras {
        image_tokens: 1_000_000,
        images_out: 2,
        images_in: 3,
        ..none()
    };
    // Six hundredths of a cent are cut by the division: 3 pictures of 0.001 dollars.
    let output = million(|usage| &mut usage.output);
    assert_eq!(cents(output + output, pictures), 1000 + 3000 + 8);
}

#[test]
fn a_picture_with_a_price_is_not_billed_by_its_tokens_too() {
    let price = Price::new(&Listed {
        rates: Rates::new(0, DOLLAR),
        output_image: Some(7),
        ..Listed::default()
    });
    let usage = Usage {
        output: 1_001_290,
        ..Usage::default()
    };
    let extras = Extras {
        images_out: 1,
        image_tokens: 1290,
        ..Extras::default()
    };
    assert_eq!(price.cost(&usage, extras).0, DOLLAR + 7);
}

#[test]
fn the_length_of_the_prompt_picks_the_rates_of_the_whole_request() {
    let price = Price::new(&Listed {
        request: None,
        ..whole()
    });
    let cost = |input, cache_read, output| {
        let usage = Usage {
            input,
            cache_read,
            output,
            ..Usage::default()
        };
        price.cost(&usage, Extras::default()).0
    };
    assert_eq!(
        cost(200_000, 0, 100),
        200_000 * 2_000 + 100 * 10_000,
        "200,000 is not above"
    );
    assert_eq!(cost(200_001, 0, 100), 200_001 * 4_000 + 100 * 15_000);
    assert_eq!(
        cost(1, 200_000, 0),
        4_000 + 200_000 * 400,
        "cached tokens are part of the prompt, and their rate changes as the input's"
    );
    assert_eq!(cost(1, 500_000, 0), 8_000 + 500_000 * 1_000, "what is written stands");
}

#[test]
fn the_service_tier_is_the_one_told() {
    let price = Price::new(&Listed {
        request: None,
        ..whole()
    });
    let cost = |service, input| {
        let usage = Usage {
            input,
            ..Usage::default()
        };
        let extras = Extras {
            service,
            ..Extras::default()
        };
        price.cost(&usage, extras).0 / input
    };
    for (service, usual, longer) in [
        (None, 2_000, 4_000),
        (Some("default"), 2_000, 4_000),
        (Some("something else"), 2_000, 4_000),
        (Some("flex"), 1_000, 2_000),
        (Some("FLEX"), 1_000, 2_000),
        (Some("priority"), 4_000, 5_000),
        (Some("fast"), 4_000, 5_000),
    ] {
        assert_eq!(
            (cost(service, 10), cost(service, 300_000)),
            (usual, longer),
            "{service:?}"
        );
    }
}

#[test]
fn nothing_costs_nothing_and_parts_of_a_nano_dollar_are_rounded_up_once() {
    assert_eq!(
        Price::default().cost(&Usage::default(), Extras::default()),
        NanoUsd::ZERO
    );
    let price = Price::from(Rates::new(1, 1));
    assert_eq!(
        price.cost(&Usage::default(), Extras::default()),
        NanoUsd::ZERO,
        "an explicit zero is zero"
    );
    let usage = Usage {
        input: 1,
        output: 1,
        ..Usage::default()
    };
    assert_eq!(price.cost(&usage, Extras::default()).0, 1, "once, not for each class");
    let all = Usage {
        input: u64::MAX,
        output: u64::MAX,
        ..Usage::default()
    };
    assert_eq!(
        Price::from(Rates::new(u64::MAX, u64::MAX)).cost(&all, Extras::default()),
        NanoUsd::MAX
    );
}

#[test]
fn an_estimate_is_what_to_expect() {
    let price = Price::from(Rates::new(250_000_000, 2_000_000_000).with(Class::Reasoning, u64::MAX));
    assert_eq!(price.estimate(0, 0).0, 0);
    assert_eq!(
        price.estimate(1, 0).0,
        250,
        "a token of 0.25 dollars a million: 250 nano-dollars"
    );
    assert_eq!(price.estimate(1_000_000, 500_000).0, 250_000_000 + 1_000_000_000);
    assert_eq!(
        Price::from(Rates::new(1, 1)).estimate(u64::MAX, u64::MAX).0,
        36_893_488_147_420
    );
    let price = Price::new(&whole());
    assert_eq!(price.estimate(300_000, 0).0, 300_000 * 4_000 + 500);
}

#[test]
fn the_bound_takes_the_tier_asked_for() {
    let price = Price::new(&Listed {
        rates: Rates::new(2, 0),
        services: vec![
            Service {
                word: "flex".into(),
                rates: Rates::new(1, 0),
                ..Service::default()
            },
            Service {
                word: "priority".into(),
                rates: Rates::new(4, 0),
                ..Service::default()
            },
        ],
        ..Listed::default()
    });
    let most = |service| {
        let asked = Extras {
            service,
            ..Extras::default()
        };
        price.most(1_000_000, 0, asked).0
    };
    assert_eq!((most(None), most(Some("auto"))), (4, 4), "it may be any");
    assert_eq!(
        (most(Some("default")), most(Some("flex"))),
        (2, 2),
        "it may fall back to the standard"
    );
    assert_eq!((most(Some("priority")), most(Some("fast"))), (4, 4));
}

fn rate() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![Just(None), Just(Some(0)), (1..=100 * DOLLAR).prop_map(Some)]
}

fn rates() -> impl Strategy<Value = Rates> {
    prop::collection::vec(rate(), Class::COUNT).prop_map(|rates| {
        let mut all = Rates::default();
        for (class, rate) in Class::ALL.into_iter().zip(rates) {
            all.set(class, rate);
        }
        all
    })
}

fn tiers() -> impl Strategy<Value = Vec<Tier>> {
    let tier = (0..1_000_000_u64, rates()).prop_map(|(above, rates)| Tier { above, rates });
    prop::collection::vec(tier, 0..4)
}

fn listed() -> impl Strategy<Value = Listed> {
    let service = |word: &'static str| {
        (rates(), tiers()).prop_map(move |(rates, tiers)| Service {
            word: word.to_owned(),
            rates,
            tiers,
        })
    };
    let services = (service("flex"), service("priority")).prop_map(|(a, b)| vec![a, b]);
    (rates(), tiers(), services, rate(), rate(), rate()).prop_map(|(rates, tiers, services, a, b, c)| Listed {
        rates,
        tiers,
        services,
        input_image: a,
        output_image: b,
        request: c,
    })
}

proptest! {
    /// B1: the real cost never passes what was reserved, whatever of the tokens was cached, written, thought or heard.
    #[test]
    fn no_cost_passes_the_bound(
        listed in listed(),
        input in prop::array::uniform5(0..600_000_u64),
        output in prop::array::uniform3(0..200_000_u64),
        slack in (0..1_000_000_u64, 0..1_000_000_u64),
        parts in (0..600_000_u64, 0..200_000_u64),
        images in (0..5_u32, 0..5_u32),
        services in prop::sample::select(vec![
            (None, Some("flex")), (None, Some("priority")), (None, None), (Some("auto"), Some("fast")),
            (Some("flex"), Some("flex")), (Some("flex"), Some("default")), (Some("fast"), Some("priority")),
            (Some("default"), Some("default")), (Some("default"), Some("scale")),
        ]),
    ) {
        let price = Price::new(&listed);
        let usage = Usage {
            input: input[0],
            cache_read: input[1],
            cache_write_5m: input[2],
            cache_write_1h: input[3],
            input_audio: input[4],
            output: output[0],
            reasoning: output[1],
            output_audio: output[2],
            ..Usage::default()
        };
        let (asked, used) = services;
        let extras = |service| Extras { service, images_in: images.0, images_out: images.1, cached_audio: parts.0, image_tokens: parts.1 };
        let most = price.most(usage.input_total() + slack.0, usage.output_total() + slack.1, extras(asked));
        prop_assert!(price.cost(&usage, extras(used)) <= most);
    }
}
