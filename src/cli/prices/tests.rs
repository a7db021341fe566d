use super::*;

/// Rules with providers of these names, a table to import, and what came of it.
struct House {
    folder: tempfile::TempDir,
}

impl House {
    fn new(prices: &str) -> Self {
        let house = House {
            folder: tempfile::tempdir().expect("a folder"),
        };
        house.write(
            "rules/a.toml",
            "[provider.acme]\ndialects = { openai_chat = \"http://127.0.0.1:1\" }\nauth = \"none\"\n\
             [provider.other]\ndialects = { openai_chat = \"http://127.0.0.1:1\" }\nauth = \"none\"\n\
             [[route]]\nname = \"r\"\nmodel = [\"m-*\"]\ntargets = [{ provider = \"acme\" }, { provider = \"other\", model = \"x\" }]\n",
        );
        house.write("rules/prices.toml", prices);
        house
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn prices(&self) -> String {
        fs::read_to_string(self.path("rules/prices.toml")).expect("there")
    }

    fn import(&self, table: &str, change: impl FnOnce(&mut Import)) -> Result<(), Failure> {
        self.write("table", table);
        let mut import = Import {
            file: self.path("table"),
            provider: Vec::new(),
            out: Some(self.path("rules/prices.toml")),
            only_used: false,
            dry_run: false,
            json: false,
        };
        change(&mut import);
        let rules = self.path("rules");
        self.write(
            "conf/tollgate.toml",
            &format!("rules = {:?}\n", rules.display().to_string()),
        );
        import.execute(&self.path("conf/tollgate.toml"))
    }
}

const TABLE: &str = r#"{
    "acme/m-1": { "litellm_provider": "acme", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 5e-06 },
    "acme/m-2": { "litellm_provider": "acme", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 5e-06 },
    "acme/z": { "litellm_provider": "acme", "mode": "chat", "input_cost_per_token": 2e-06, "output_cost_per_token": 5e-06 },
    "x": { "litellm_provider": "other", "mode": "chat", "input_cost_per_token": 0, "output_cost_per_token": 0.0 },
    "y": { "litellm_provider": "foreign", "mode": "chat", "input_cost_per_token": 2, "output_cost_per_token": 2 }
}"#;

#[test]
fn what_people_wrote_stays_and_wins() {
    let own = "# Mine.\n[[price]]\nname = \"z\"\nprovider = \"acme\"\ninput = 0.5\noutput = 1\n";
    let house = House::new(own);
    house.import(TABLE, |_| {}).expect("imported");
    let first = house.prices();
    assert!(first.starts_with(own), "{first}");
    let said = Parts::read(&first).expect("readable");
    let names: Vec<String> = said.imported.keys().map(|(p, m)| format!("{p}/{m}")).collect();
    assert_eq!(names, ["acme/m-1", "acme/m-2", "other/x"]);
    assert!(
        first.contains("name = [\"m-1\", \"m-2\"]\nprovider = \"acme\"\ninput = 1\noutput = 5\n"),
        "{first}"
    );
    assert!(
        first.contains("name = \"x\"\nprovider = \"other\"\ninput = 0\noutput = 0\n"),
        "an explicit zero: {first}"
    );

    // Again: nothing changes, the file's date neither.
    let before = fs::metadata(house.path("rules/prices.toml"))
        .expect("there")
        .modified()
        .expect("known");
    house.import(TABLE, |_| {}).expect("imported");
    assert_eq!(house.prices(), first);
    let after = fs::metadata(house.path("rules/prices.toml"))
        .expect("there")
        .modified()
        .expect("known");
    assert_eq!(before, after, "not even written");

    // Dearer, and one gone: only what was imported is replaced.
    let dearer = TABLE
        .replace("5e-06", "6e-06")
        .replace("\"litellm_provider\": \"other\"", "\"litellm_provider\": \"gone\"");
    house.import(&dearer, |import| import.dry_run = true).expect("looked");
    assert_eq!(house.prices(), first, "a dry run writes nothing");
    house.import(&dearer, |_| {}).expect("imported");
    let second = house.prices();
    assert!(
        second.starts_with(own) && second.contains("output = 6") && !second.contains("other"),
        "{second}"
    );
    assert!(!house.path("rules/prices.toml.new").exists());
    let (rules, _) = rules::compile_with(&house.path("rules"), &Clock::system(), &Machine).expect("rules");
    assert!(rules.prices.knows("acme", "m-2"));
}

#[test]
fn one_chooses() {
    let house = House::new("");
    house.import(TABLE, |import| import.only_used = true).expect("imported");
    let keys = |house: &House| -> Vec<String> {
        let said = Parts::read(&house.prices()).expect("readable").imported;
        said.into_keys()
            .map(|(provider, model)| format!("{provider}/{model}"))
            .collect()
    };
    assert_eq!(keys(&house), ["acme/m-1", "acme/m-2", "other/x"], "z is in no route");
    house
        .import(TABLE, |import| import.provider = vec!["other".into()])
        .expect("imported");
    assert_eq!(keys(&house), ["acme/m-1", "acme/m-2", "other/x"], "those of acme stay");
    house
        .import(TABLE, |import| import.provider = vec!["foreign=acme".into()])
        .expect("imported");
    assert_eq!(keys(&house), ["other/x"], "two dollars a token are no price");
    let refused = house.import(TABLE, |import| import.provider = vec!["nobody".into()]);
    assert!(matches!(refused, Err(Failure::Given(_))));
}

#[test]
fn an_import_of_one_provider_changes_only_its_own() {
    let own = "[[price]]\nname = \"mine\"\nprovider = \"other\"\ninput = 1\noutput = 1\n";
    let house = House::new(own);
    house.import(TABLE, |_| {}).expect("imported");
    let before = house.prices();
    let dearer = TABLE.replace("5e-06", "6e-06").replace("\"x\"", "\"x-2\"");
    let other = |import: &mut Import| import.provider = vec!["other".into()];
    house.import(&dearer, other).expect("imported");
    let after = house.prices();
    assert!(after.starts_with(own) && after.contains("name = \"x-2\""), "{after}");
    assert!(
        !after.contains("name = \"x\"\n") && !after.contains("output = 6"),
        "{after}"
    );
    let acme = |text: &str| {
        let from = text.find("\n[[price]]\nname = [\"m-1\"").expect("there");
        text[from..text.rfind("\n[[price]]").expect("there")].to_owned()
    };
    assert_eq!(acme(&before), acme(&after));

    // A table without it must not take all its prices away.
    let without = TABLE.replace("\"litellm_provider\": \"other\"", "\"litellm_provider\": \"gone\"");
    let Err(Failure::Given(told)) = house.import(&without, other) else {
        panic!("the table has nothing of it");
    };
    assert!(
        told.contains("no models of it") && told.contains("acme, foreign, gone"),
        "{told}"
    );
    assert_eq!(house.prices(), after);
}

#[test]
fn what_is_removed_is_told_in_full_and_what_was_not_asked_for_as_such() {
    let said = |provider: &str, count: usize| -> Said {
        let fields = BTreeMap::from([("input".to_owned(), "1".to_owned())]);
        let one = |n| ((provider.to_owned(), format!("m{n}")), fields.clone());
        (0..count).map(one).collect()
    };
    let (mut old, new) = (said("a", 2 * MAX_TOLD), said("b", 3));
    old.extend(new.clone());
    let mut outcome = Outcome::default();
    compare(&old, &new, Some(&BTreeSet::from(["a".to_owned()])), &mut outcome);
    let text = outcome.text();
    assert_eq!(
        text.lines().filter(|line| line.starts_with("- a/m")).count(),
        2 * MAX_TOLD,
        "{text}"
    );
    assert!(text.contains("80 removed, 0 as before"), "{text}");
    assert!(text.contains("3 of other providers stay as they are."), "{text}");
}

#[test]
fn what_is_no_table_changes_nothing() {
    let house = House::new("# Mine.\n");
    for table in [
        "",
        "[]",
        "{}",
        "{\"a\": {}}",
        "{\"a\": 5}",
        "provider\n",
        "{\"a\": {\"litellm_provider\": \"acme\"",
        "\u{feff}",
    ] {
        assert!(matches!(house.import(table, |_| {}), Err(Failure::Given(_))), "{table}");
        assert_eq!(house.prices(), "# Mine.\n");
    }
    house.write("rules/prices.toml", "not = [toml");
    assert!(matches!(house.import(TABLE, |_| {}), Err(Failure::Given(_))));
    assert_eq!(house.prices(), "not = [toml");
}

#[test]
fn changes_are_told_with_old_and_new() {
    let fields = |all: &[(&str, &str)]| -> BTreeMap<String, String> {
        all.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    };
    let change = |old, new| Change {
        provider: "p".into(),
        model: "m".into(),
        old,
        new,
    };
    let (old, new) = (
        fields(&[("input", "1"), ("cached", "0.1"), ("output", "5")]),
        fields(&[("input", "2"), ("output", "5"), ("request", "1")]),
    );
    assert_eq!(
        change(Some(old.clone()), Some(new)).text(),
        "p/m: cached 0.1 -> none, input 1 -> 2, request none -> 1"
    );
    assert_eq!(
        change(None, Some(old.clone())).text(),
        "p/m: cached 0.1, input 1, output 5"
    );
    assert_eq!(change(Some(old), None).text(), "p/m: cached 0.1, input 1, output 5");
}
