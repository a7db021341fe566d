use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn intent(who: &str) -> Intent {
    Intent {
        time: "2026-01-31T00:00:00.000000Z".into(),
        who: who.into(),
        role: "owner".into(),
        from: None,
        method: "POST".into(),
        path: "/api/v1/keys".into(),
    }
}

fn outcome(status: u16) -> Outcome {
    Outcome {
        status,
        ..Outcome::default()
    }
}

/// A write, from its intent to its line.
fn write(audit: &Audit, status: u16) -> io::Result<()> {
    let begun = audit.begin(intent("01234567"))?;
    audit.end(&begun, intent("01234567"), outcome(status))
}

struct House {
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.jsonl");
        House { folder, path }
    }

    fn open(&self) -> Audit {
        Audit::open(&self.path).expect("it opens")
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.path).expect("the file");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }
}

/// These writes have their lines, and the process dies before it is written down that they have.
fn end_and_die<const N: usize>(house: &House, audit: Audit, whos: [&str; N]) {
    let begun = whos.map(|who| audit.begin(intent(who)).expect("begun"));
    let before = fs::read(house.beside("audit.head")).expect("the head");
    for (begun, who) in begun.iter().zip(whos) {
        audit.end(begun, intent(who), outcome(202)).expect("recorded");
    }
    drop(audit);
    fs::write(house.beside("audit.head"), before).expect("written");
}

/// Nothing can be written there.
fn break_head(house: &House) {
    fs::create_dir(house.beside("audit.head.new")).expect("a folder in its way");
}

#[test]
fn lines_are_chained_over_restarts_and_kept_from_others() {
    let house = House::new();
    for status in [201, 202] {
        let audit = house.open();
        write(&audit, status).expect("recorded");
        audit.record(intent("a"), outcome(403)).expect("recorded");
    }
    let text = fs::read_to_string(&house.path).expect("the file");
    let mut previous = String::new();
    for line in text.lines() {
        let value: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(
            value["previous"], previous,
            "each line holds the hash of the one before"
        );
        previous = digest(line.as_bytes());
    }
    assert_eq!(text.lines().count(), 4);
    for name in ["audit.jsonl", "audit.head"] {
        let mode = fs::metadata(house.beside(name)).expect("the file").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name} is the owner's");
    }
}

#[test]
fn a_file_moved_away_is_followed_by_a_new_one_which_continues_the_chain() {
    for stopped in [false, true] {
        let house = House::new();
        let audit = house.open();
        write(&audit, 200).expect("recorded");
        let moved = house.beside("audit.jsonl.1");
        fs::rename(&house.path, &moved).expect("moved");
        let audit = if stopped { house.open() } else { audit };
        write(&audit, 200).expect("recorded");
        let old = fs::read_to_string(&moved).expect("the old file");
        let last = digest(old.trim_end().as_bytes());
        assert_eq!(house.lines()[0]["previous"], last);
        assert_eq!(moved_away(&house.path, &last).expect("looked"), Some(moved));
        assert_eq!(moved_away(&house.path, &digest(b"another")).expect("looked"), None);
    }
}

#[test]
fn half_a_line_does_not_swallow_the_next_and_a_long_one_is_cut_down() {
    let house = House::new();
    fs::write(&house.path, "{\"half\"").expect("written");
    let audit = house.open();
    let long = Outcome {
        change: Some(Change {
            target: "t".into(),
            values: Value::String("x".repeat(MAX_LINE as usize)),
        }),
        ..outcome(200)
    };
    audit.record(intent("a"), long).expect("recorded");
    let text = fs::read_to_string(&house.path).expect("the file");
    let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["previous"], digest(b"{\"half\""));
    assert_eq!(last["change"]["values"], "too long to be recorded");
}

#[test]
fn half_a_line_of_a_crash_is_taken_out_and_its_write_told() {
    for rotated in [false, true] {
        let house = House::new();
        let audit = house.open();
        write(&audit, 201).expect("recorded");
        if rotated {
            fs::rename(&house.path, house.beside("audit.jsonl.1")).expect("moved");
        }
        end_and_die(&house, audit, ["torn"]);
        let text = fs::read(&house.path).expect("the file");
        fs::write(&house.path, &text[..text.len() - 30]).expect("torn");
        write(&house.open(), 202).expect("recorded");
        let told: Vec<_> = house.lines().iter().map(|line| line["interrupted"] == true).collect();
        let want: &[bool] = if rotated { &[true, false] } else { &[false, true, false] };
        assert_eq!(told, want, "rotated: {rotated}");
    }
    // Of two at once the first line is whole, and nobody wrote down that it is.
    let house = House::new();
    let audit = house.open();
    write(&audit, 201).expect("recorded");
    end_and_die(&house, audit, ["a", "b"]);
    let text = fs::read(&house.path).expect("the file");
    fs::write(&house.path, &text[..text.len() - 30]).expect("torn");
    drop(house.open());
    let lines = house.lines();
    let told: Vec<_> = lines
        .iter()
        .map(|line| (&line["who"], line["interrupted"] == true))
        .collect();
    assert_eq!(told[1..], [(&"a".into(), false), (&"b".into(), true)]);
    // Half of a line that was known to be whole was made so by somebody.
    let house = House::new();
    let audit = house.open();
    write(&audit, 201).expect("recorded");
    write(&audit, 202).expect("recorded");
    let last = audit.while_still(str::to_owned);
    drop(audit);
    let text = fs::read(&house.path).expect("the file");
    fs::write(&house.path, &text[..text.len() - 30]).expect("cut");
    let audit = house.open();
    assert_eq!(audit.while_still(str::to_owned), last);
    write(&audit, 203).expect("recorded");
    assert_eq!(fs::read_to_string(&house.path).expect("the file").lines().count(), 3);
}

/// Killed when the first line of a new file was written, and not yet that it was.
#[test]
fn the_first_line_behind_a_rotation_is_known_again() {
    let house = House::new();
    let audit = house.open();
    write(&audit, 201).expect("recorded");
    fs::rename(&house.path, house.beside("audit.jsonl.1")).expect("moved");
    end_and_die(&house, audit, ["new"]);
    write(&house.open(), 203).expect("recorded");
    let lines = house.lines();
    let told: Vec<_> = lines.iter().map(|line| line["status"].clone()).collect();
    assert_eq!(told, [202, 203]);
    let text = fs::read_to_string(&house.path).expect("the file");
    let first = text.lines().next().expect("a line");
    assert_eq!(lines[1]["previous"], digest(first.as_bytes()), "the chain goes on");
}

#[test]
fn a_file_beside_that_is_not_ours_to_read_is_passed_over() {
    let house = House::new();
    let audit = house.open();
    write(&audit, 201).expect("recorded");
    let moved = house.beside("audit.jsonl.9");
    fs::rename(&house.path, &moved).expect("moved");
    // Nobody, not even root, can read a folder's bytes or follow this.
    for n in 1..5 {
        symlink("/nowhere", house.beside(&format!("audit.jsonl.{n}"))).expect("linked");
        fs::create_dir(house.beside(&format!("audit.jsonl.bak{n}"))).expect("made");
    }
    let last = audit.while_still(str::to_owned);
    assert_eq!(moved_away(&house.path, &last).expect("looked"), Some(moved));
}

#[test]
fn a_new_file_does_not_begin_with_the_end_of_the_old_ones_half_line() {
    let house = House::new();
    fs::write(&house.path, "{\"half\"").expect("written");
    let audit = house.open();
    fs::rename(&house.path, house.beside("audit.jsonl.1")).expect("moved");
    write(&audit, 201).expect("recorded");
    assert_eq!(house.lines().len(), 1, "no empty line before it");
}

#[test]
fn nothing_begins_while_the_intent_or_the_line_has_no_place() {
    let house = House::new();
    let audit = house.open();
    write(&audit, 201).expect("recorded");
    break_head(&house);
    assert!(audit.begin(intent("a")).is_err(), "no place for the intent");
    fs::remove_dir(house.beside("audit.head.new")).expect("out of the way");
    write(&audit, 202).expect("recorded");
    fs::remove_file(&house.path).expect("removed");
    symlink("/dev/full", &house.path).expect("linked");
    assert!(audit.begin(intent("a")).is_err(), "no room for the line");
    fs::remove_file(&house.path).expect("removed");
    assert!(audit.begin(intent("a")).is_ok());
    assert_eq!(
        audit.inner.lock().head.said.pending.len(),
        1,
        "what was refused is not under way"
    );
    for _ in 1..MAX_PENDING {
        audit.begin(intent("a")).expect("begun");
    }
    let refused = audit.begin(intent("a")).expect_err("too many");
    assert!(
        refused.get_ref().is_some_and(|error| error.is::<TooMany>()),
        "{refused}"
    );
}

#[test]
fn a_line_that_could_not_be_written_comes_before_the_next_write() {
    let house = House::new();
    let audit = house.open();
    let begun = audit.begin(intent("a")).expect("begun");
    symlink("/dev/full", house.beside("full")).expect("linked");
    fs::rename(house.beside("full"), &house.path).expect("in its place");
    assert!(audit.end(&begun, intent("a"), outcome(201)).is_err());
    assert!(audit.begin(intent("b")).is_err(), "the other is still owed");
    fs::remove_file(&house.path).expect("removed");
    let begun = audit.begin(intent("b")).expect("begun");
    audit.end(&begun, intent("b"), outcome(202)).expect("recorded");
    let told: Vec<_> = house
        .lines()
        .iter()
        .map(|line| (line["who"].clone(), line["status"].clone()))
        .collect();
    assert_eq!(told, [("a".into(), 201.into()), ("b".into(), 202.into())]);
}

#[test]
fn a_write_under_way_when_the_process_died_has_a_line_afterwards() {
    let house = House::new();
    let audit = house.open();
    write(&audit, 201).expect("recorded");
    audit.begin(intent("died")).expect("begun");
    drop(audit);
    drop(house.open());
    let lines = house.lines();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[1]["who"], &lines[1]["status"]), (&"died".into(), &0.into()));
    assert_eq!(lines[1]["interrupted"], true);

    // It died after the line, before the head: there is one already.
    let audit = house.open();
    end_and_die(&house, audit, ["twice"]);
    let audit = house.open();
    write(&audit, 204).expect("recorded");
    let whos: Vec<_> = house.lines().iter().map(|line| line["who"].clone()).collect();
    assert_eq!(whos, ["01234567", "died", "twice", "01234567"]);
}

#[test]
fn an_emptied_file_goes_on_from_the_line_that_was_last() {
    for stopped in [false, true] {
        let house = House::new();
        let audit = house.open();
        write(&audit, 201).expect("recorded");
        let last = audit.while_still(str::to_owned);
        fs::write(&house.path, "").expect("emptied");
        let audit = if stopped { house.open() } else { audit };
        assert_eq!(audit.while_still(str::to_owned), last);
        write(&audit, 202).expect("recorded");
        assert_eq!(house.lines()[0]["previous"], last);
    }
}
