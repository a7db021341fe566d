//! Exports of providers, read.

use super::*;

fn read_text(text: &str, format: Format) -> Result<Invoice, String> {
    read(text.as_bytes(), format).map_err(|failure| match failure {
        Failure::Given(told) => told,
        Failure::NotDone(error) => panic!("{error}"),
    })
}

fn one(text: &str, format: Format) -> (String, String, [i128; 5]) {
    let invoice = read_text(text, format).expect("it reads");
    assert_eq!(invoice.sums.len(), 1, "{invoice:?}");
    let ((day, model), sums) = invoice.sums.into_iter().next().expect("one");
    (day.to_string(), model, sums.of)
}

#[test]
fn usage_of_openai() {
    let text = "start_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,model,input_tokens,output_tokens,\
                input_cached_tokens\n\
                1769731200,1769731260,2026-01-30T00:00:00+00:00,2026-01-30T00:01:00+00:00,,,,,,\n\
                1769731260,1769731320,2026-01-30T00:01:00+00:00,2026-01-30T00:02:00+00:00,p,1,gpt-4o-2024-08-06,100,20,64\n\
                1769731320,1769731380,2026-01-30T00:02:00+00:00,2026-01-30T00:03:00+00:00,p,2,gpt-4o-2024-08-06,10,2,0\n";
    let expected = ("2026-01-30".into(), "gpt-4o-2024-08-06".into(), [110, 64, 0, 22, 0]);
    assert_eq!(one(text, Format::Auto), expected);
    let invoice = read_text(text, Format::Openai).expect("it reads");
    assert_eq!(invoice.tells, [What::Input, What::CacheRead, What::Output]);
}

#[test]
fn costs_of_openai() {
    let text = "start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,quantity,quantity_unit,line_item\n\
                1769731200,1769817600,2026-01-30T00:00:00+00:00,2026-01-31T00:00:00+00:00,,,,,\n\
                1769731200,1769817600,2026-01-30T00:00:00+00:00,2026-01-31T00:00:00+00:00,0.0123000000000000004,usd,1,t,\"gpt-4o, input\"\n\
                1769731200,1769817600,2026-01-30T00:00:00+00:00,2026-01-31T00:00:00+00:00,1.2e-05,usd,1,t,\"gpt-4o, output\"\n";
    assert_eq!(
        one(text, Format::Auto),
        ("2026-01-30".into(), "gpt-4o".into(), [0, 0, 0, 0, 12_312_000])
    );
}

#[test]
fn usage_and_costs_of_anthropic() {
    let text = "\u{feff}usage_date_utc,model_version,api_key,workspace,usage_type,context_window,usage_input_tokens_no_cache,\
                usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,\
                usage_output_tokens,web_search_count\r\n\
                2026-01-30,claude-haiku-4-5-20251001,k,Default,standard,≤ 200k,100,10,5,1000,50,0\r\n";
    let expected = (
        "2026-01-30".into(),
        "claude-haiku-4-5-20251001".into(),
        [1115, 1000, 15, 50, 0],
    );
    assert_eq!(one(text, Format::Auto), expected);
    let text = "usage_date_utc,model,workspace,api_key,token_type,cost_usd,list_price_usd\n\
                2026-01-30,Claude Haiku 4.5,Default,k,input_no_cache,0.05,0.05\n\
                2026-01-30,Claude Haiku 4.5,Default,k,output,\"$1,000.10\",0.05\n";
    let invoice = read_text(text, Format::Auto).expect("it reads");
    let sums = invoice.sums.values().next().expect("one");
    assert_eq!((sums.of[4], sums.amounts), (1_000_150_000_000, 2));
    assert_eq!(invoice.unit, CENT);
}

#[test]
fn the_last_digit_is_that_of_the_finest_amount() {
    for (amounts, unit) in [
        (&["3", "12"][..], CENT),
        (&["0.5", "0.25"], CENT),
        (&["0.5", "0.0376"], 100_000),
        (&["1.2e-05", "0.10"], 1_000),
        (&["0.123456789", "1"], 1),
        (&["0.1234567891", "1"], 0),
    ] {
        let mut text = "date,model,cost\n".to_owned();
        for amount in amounts {
            text += &format!("2026-01-30,m,{amount}\n");
        }
        let invoice = read_text(&text, Format::Auto).expect("it reads");
        assert_eq!(invoice.unit, unit, "{amounts:?}");
    }
}

#[test]
fn any_other_table() {
    let text =
        "Day, Model ,Input Tokens,Cached,Output Tokens,Cost (USD)\n2026-01-30 23:59:00,m,\"1,000\",10,5.0,-0.001\n";
    let expected = ("2026-01-30".into(), "m".into(), [1000, 10, 0, 5, -1_000_000]);
    assert_eq!(one(text, Format::Csv), expected);
    assert_eq!(
        one(text, Format::Anthropic).2[0],
        1010,
        "cached ones are not among the others"
    );
    assert_eq!(
        day("2026-01-31T01:00:00+02:00").map(|day| day.to_string()).as_deref(),
        Some("2026-01-30")
    );
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    for (text, told) in [
        ("", "line 1: no column holds a day"),
        ("date,input_tokens\n", "line 1: no column holds a model"),
        ("date,model\n", "line 1: no column holds tokens or money"),
        (
            "date,model,cost\n2026-01-30,m,1\n01/31/2026,m,1\n",
            "line 3: the day is \"01/31/2026\"",
        ),
        (
            "date,model,cost\n2026-01-30,\"m\nn\",1\n2026-01-30,m,one\n",
            "line 4: cost is \"one\"",
        ),
        (
            "date,model,input_tokens\n2026-01-30,m,-5\n",
            "line 2: input_tokens is \"-5\"",
        ),
        (
            "date,model,cost,currency\n2026-01-30,m,1,EUR\n",
            "line 2: currency is EUR",
        ),
    ] {
        let error = read_text(text, Format::Auto).expect_err(told);
        assert!(error.starts_with(told), "{error} should begin with {told}");
    }
    assert!(read(&b"date,model,cost\n2026-01-30,\xff,1\n"[..], Format::Auto).is_err());
}

#[test]
fn what_is_wrong_is_told_with_the_line_it_stands_on() {
    let far = "2026-01-31,m,1\n".repeat(2000);
    for (text, line) in [
        ("date,model,cost\n2026-01-31,m,1\n2026-01-31,m,x\n".to_owned(), 3),
        ("date,model,cost\n\n\n2026-01-31,m,x".to_owned(), 4),
        ("\ndate,model,cost\n2026-01-31,m,1\n\n2026-01-31,m,x\n\n".to_owned(), 5),
        (
            "date,model,cost\r\n2026-01-31,m,1\r\n\r\n2026-01-31,m,x\r\n".to_owned(),
            4,
        ),
        ("\u{feff}date,model,cost\r\n2026-01-31,m,x".to_owned(), 2),
        (
            "date,model,cost\n2026-01-31,\"m\n\nn\",1\n2026-01-31,\"m\nn\",x\n".to_owned(),
            5,
        ),
        (format!("date,model,cost\n{far}\n2026-01-31,m,x\n{far}"), 2003),
    ] {
        let told = read_text(&text, Format::Auto).expect_err(&text);
        assert!(told.starts_with(&format!("line {line}: cost is")), "{line}: {told}");
    }
    let told = read_text("\n\ndate,price\n", Format::Auto).expect_err("no model");
    assert!(told.starts_with("line 3: no column holds a model"), "{told}");
    let told = read(&b"date,model,cost\n\n2026-01-31,\xff,1\n"[..], Format::Auto);
    assert!(matches!(told, Err(Failure::Given(told)) if told.starts_with("line 3: not UTF-8")));
}
