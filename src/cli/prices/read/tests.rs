use crate::money::{Rates, Service, Tier};

use super::*;

const MILLI: u64 = 1_000_000;

fn one(text: &str) -> Found {
    let (_, mut found) = table(text).expect("a table");
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn every_field_of_litellm_is_read() {
    let found = one(r#"{
        "sample_spec": { "litellm_provider": "one of these", "input_cost_per_token": 0.0, "mode": "one of: chat" },
        "fallback_generalizations": { "rules": [] },
        "acme/vendor/m": {
            "litellm_provider": "acme", "mode": "responses", "max_input_tokens": 1000000, "source": "https://example.com",
            "input_cost_per_token": 1.25e-06, "output_cost_per_token": 1e-05,
            "cache_read_input_token_cost": 1.25e-07, "cache_creation_input_token_cost": 1.5625e-06,
            "cache_creation_input_token_cost_above_1hr": 2.5e-06, "output_cost_per_reasoning_token": 1.1e-05,
            "input_cost_per_audio_token": 7e-06, "cache_read_input_audio_token_cost": 7e-07,
            "output_cost_per_audio_token": 2e-05, "output_cost_per_image_token": 3e-05, "output_cost_per_image": 0.039,
            "input_cost_per_image": 0.001, "input_cost_per_request": 0.005,
            "input_cost_per_token_above_200k_tokens": 2.5e-06, "output_cost_per_token_above_200k_tokens": 1.5e-05,
            "cache_creation_input_token_cost_above_1hr_above_200k_tokens": 5e-06,
            "input_cost_per_token_batches": 6.25e-07, "output_cost_per_token_batches": 5e-06,
            "input_cost_per_token_priority": 2.5e-06, "output_cost_per_token_priority": 2e-05,
            "input_cost_per_token_above_200k_tokens_priority": 4e-06,
            "input_cost_per_video_per_second": 1, "provider_specific_entry": { "us": 1.1, "fast": 2.5 }
        } }"#);
    assert_eq!((found.provider.as_str(), found.model.as_str()), ("acme", "vendor/m"));
    let tier = |rates| Tier { above: 200_000, rates };
    let service = |word: &str, rates, tiers| Service {
        word: word.into(),
        rates,
        tiers,
    };
    let expected = Listed {
        rates: Rates::new(1_250 * MILLI, 10_000 * MILLI)
            .with(Class::CacheRead, 125 * MILLI)
            .with(Class::CacheWrite, 1_562_500_000)
            .with(Class::CacheWrite1h, 2_500 * MILLI)
            .with(Class::Reasoning, 11_000 * MILLI)
            .with(Class::InputAudio, 7_000 * MILLI)
            .with(Class::CachedAudio, 700 * MILLI)
            .with(Class::OutputAudio, 20_000 * MILLI)
            .with(Class::OutputImage, 30_000 * MILLI),
        tiers: vec![tier(
            Rates::new(2_500 * MILLI, 15_000 * MILLI).with(Class::CacheWrite1h, 5_000 * MILLI),
        )],
        services: vec![
            service("batch", Rates::new(625 * MILLI, 5_000 * MILLI), vec![]),
            service("fast", Rates::new(3_125 * MILLI, 25_000 * MILLI), vec![]),
            service(
                "priority",
                Rates::new(2_500 * MILLI, 20_000 * MILLI),
                vec![tier(Rates::default().with(Class::Input, 4_000 * MILLI))],
            ),
        ],
        // Pictures have a price by tokens.
        input_image: None,
        output_image: None,
        request: Some(5 * MILLI),
    };
    assert_eq!(found.price, Ok(expected));
}

#[test]
fn what_has_no_price_or_no_text_is_told_apart() {
    let (format, found) = table(
        r#"{
        "a": { "litellm_provider": "p", "mode": "image_generation", "output_cost_per_image": 0.04 },
        "b": { "litellm_provider": "p", "mode": "chat", "max_tokens": 5 },
        "c": { "litellm_provider": "p", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": null },
        "d": { "litellm_provider": "p", "mode": "embedding", "input_cost_per_token": 1e-06 },
        "e": { "litellm_provider": "p", "mode": "chat", "input_cost_per_token": 0.0, "output_cost_per_token": 0 } }"#,
    )
    .expect("a table");
    assert_eq!(format, Format::LiteLlm);
    let prices: Vec<_> = found
        .into_iter()
        .map(|found| found.price.map(|listed| listed.rates))
        .collect();
    let embeds = Rates::new(1_000 * MILLI, 0);
    assert_eq!(
        prices,
        [
            Err(Skip::NoText),
            Err(Skip::NoPrice),
            Err(Skip::NoPrice),
            Ok(embeds),
            Ok(Rates::new(0, 0))
        ]
    );
}

#[test]
fn steps_of_the_prompt_are_tiers() {
    let found = one(r#"{ "m": { "litellm_provider": "p", "mode": "chat", "tiered_pricing": [
            { "range": [0, 32000.0], "input_cost_per_token": 1e-06, "output_cost_per_token": 5e-06 },
            { "range": [32000.0, 128000.0], "input_cost_per_token": 2e-06, "output_cost_per_token": 7e-06 } ] } }"#);
    let listed = found.price.expect("a price");
    assert_eq!(listed.rates, Rates::new(1_000 * MILLI, 5_000 * MILLI));
    let tier = Tier {
        above: 32_000,
        rates: Rates::new(2_000 * MILLI, 7_000 * MILLI),
    };
    assert_eq!(listed.tiers, [tier]);
}

#[test]
fn models_dev_is_read() {
    let text = r#"{ "google": { "id": "google", "env": ["K"], "models": {
        "g": { "id": "g", "modalities": { "input": ["text"], "output": ["text"] }, "limit": { "context": 5 },
               "cost": { "input": 1.25, "output": 10, "cache_read": 0.31, "cache_write": 1.5, "reasoning": 12, "input_audio": 3,
                         "output_audio": 20, "context_over_200k": { "input": 2.5, "output": 15, "cache_read": 0.625 },
                         "tiers": [{ "input": 4, "output": 20, "tier": { "type": "context", "size": 500000 } }] } },
        "i": { "id": "i", "modalities": { "output": ["image"] }, "cost": { "input": 1, "output": 2 } },
        "n": { "id": "n" } } } }"#;
    let (format, found) = table(text).expect("a table");
    assert_eq!(format, Format::ModelsDev);
    assert_eq!(
        (found[1].price.clone(), found[2].price.clone()),
        (Err(Skip::NoText), Err(Skip::NoPrice))
    );
    let listed = found[0].price.clone().expect("a price");
    let classes = [
        Class::Input,
        Class::CacheRead,
        Class::CacheWrite,
        Class::Reasoning,
        Class::InputAudio,
        Class::OutputAudio,
    ];
    let rates = classes.map(|class| listed.rates.get(class).expect("said") / MILLI);
    assert_eq!(rates, [1_250, 310, 1_500, 12_000, 3_000, 20_000]);
    let tiers: Vec<_> = listed
        .tiers
        .iter()
        .map(|tier| (tier.above, tier.rates.get(Class::Input)))
        .collect();
    assert_eq!(tiers, [(200_000, Some(2_500 * MILLI)), (500_000, Some(4_000 * MILLI))]);
}

#[test]
fn csv_is_read() {
    let text = "provider,model,mode,input_cost_per_mtok,output_cost_per_mtok,cache_read_input_mtok_cost,\
                input_cost_per_mtok_above_272k_tokens,output_cost_per_mtok_flex,output_cost_per_reasoning_token,max_input_tokens\n\
                p,m,chat,2.0,10.0,,4.0,5.0,10.0,1000\np,q,chat,,,,,,,\n";
    let (format, found) = table(text).expect("a table");
    assert_eq!(format, Format::Csv);
    let listed = found[0].price.clone().expect("a price");
    assert_eq!(
        listed.rates,
        Rates::new(2_000 * MILLI, 10_000 * MILLI),
        "empty is unknown, the same again nothing new"
    );
    assert_eq!(
        listed.tiers[0].rates,
        Rates::default().with(Class::Input, 4_000 * MILLI)
    );
    assert_eq!(
        listed.services[0].rates,
        Rates::default().with(Class::Output, 5_000 * MILLI)
    );
    assert_eq!(found[1].price, Err(Skip::NoPrice));
}
