//! Many model names and globs, asked at once which of them match a name.
//!
//! Exact names are found by hash. Globs of `*` and `?` are filed under the letters before the first of them (`gpt-` of
//! `gpt-*-mini`), so that only those whose beginning fits are tried; a route more costs nothing. What else a glob can say
//! (`[ab]`, `{x,y}`, `\`, `**`) goes into one [`GlobSet`].

use std::collections::HashMap;

use globset::{Candidate, Glob, GlobBuilder, GlobSet, GlobSetBuilder};

/// Longest model name or glob, in bytes.
pub(super) const MAX_PATTERN: usize = 256;

/// All patterns. Each has a number given by its owner, several may have the same.
#[derive(Debug)]
pub(super) struct Patterns {
    exact: HashMap<Box<str>, Vec<u32>>,
    /// In the order of their texts.
    heads: Vec<Head>,
    others: GlobSet,
    /// The number of each of `others`.
    numbers: Vec<u32>,
}

/// Globs that begin with the same letters.
#[derive(Debug)]
struct Head {
    text: Box<str>,
    /// The longest other head which this one begins with.
    parent: Option<u32>,
    /// What follows the letters, from the first `*` or `?` on.
    rests: Vec<(Box<str>, u32)>,
}

/// What a pattern is made of.
enum Kind<'p> {
    Exact,
    /// The letters before the first `*` or `?`, and the rest.
    Simple(&'p str, &'p str),
    Other,
}

fn kind(pattern: &str) -> Kind<'_> {
    // `**` means something of its own beside a slash.
    if pattern.contains(['[', ']', '{', '}', '\\']) || pattern.contains("**") {
        return Kind::Other;
    }
    match pattern.find(['*', '?']) {
        None => Kind::Exact,
        Some(at) => Kind::Simple(&pattern[..at], &pattern[at..]),
    }
}

/// Whether the pattern is a name and no glob.
pub(super) fn is_name(pattern: &str) -> bool {
    matches!(kind(pattern), Kind::Exact)
}

/// The letters with which all begins that the pattern matches.
pub(super) fn head(pattern: &str) -> &str {
    let end = pattern.find(['*', '?', '[', '{', '\\']).unwrap_or(pattern.len());
    &pattern[..end]
}

/// One glob. `*` matches any characters, `/` too: a model's name is no path.
pub(super) fn glob(pattern: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern).literal_separator(false).build()
}

impl Default for Patterns {
    fn default() -> Self {
        Patterns {
            exact: HashMap::new(),
            heads: Vec::new(),
            others: GlobSet::empty(),
            numbers: Vec::new(),
        }
    }
}

impl Patterns {
    /// Compiles patterns with their numbers. An error is a glob's own, or that they are too large together.
    pub(super) fn new<'p>(all: impl IntoIterator<Item = (&'p str, u32)>) -> Result<Self, globset::Error> {
        let mut exact: HashMap<Box<str>, Vec<u32>> = HashMap::new();
        let mut heads: Vec<Head> = Vec::new();
        let (mut others, mut numbers) = (GlobSetBuilder::new(), Vec::new());
        let mut by_head: HashMap<&str, usize> = HashMap::new();
        for (pattern, number) in all {
            match kind(pattern) {
                Kind::Exact => exact.entry(pattern.into()).or_default().push(number),
                Kind::Simple(text, rest) => {
                    let at = *by_head.entry(text).or_insert_with(|| {
                        heads.push(Head {
                            text: text.into(),
                            parent: None,
                            rests: Vec::new(),
                        });
                        heads.len() - 1
                    });
                    if let Some(head) = heads.get_mut(at) {
                        head.rests.push((rest.into(), number));
                    }
                }
                Kind::Other => {
                    others.add(glob(pattern)?);
                    numbers.push(number);
                }
            }
        }
        heads.sort_by(|a, b| a.text.cmp(&b.text));
        link(&mut heads);
        Ok(Patterns {
            exact,
            heads,
            others: others.build()?,
            numbers,
        })
    }

    /// The numbers of the patterns which are this very name, as they were given.
    pub(super) fn exact(&self, name: &str) -> &[u32] {
        self.exact.get(name).map_or(&[], Vec::as_slice)
    }

    /// Every head which the name begins with, the longest first.
    ///
    /// The heads which begin a name are, in alphabetical order, at or before the last that is not after the name; and
    /// each of them begins that last one too, since what lies between a text and its continuation continues it as well.
    fn heads_of(&self, name: &str) -> impl Iterator<Item = &Head> {
        let last = self.heads.partition_point(|head| *head.text <= *name).checked_sub(1);
        let last = last.and_then(|at| self.heads.get(at));
        let parent = |head: &&Head| self.heads.get(usize::try_from(head.parent?).ok()?);
        std::iter::successors(last, parent).filter(|head| name.starts_with(&*head.text))
    }

    /// Calls `found` with the number of each glob that matches, in no order.
    fn globs(&self, name: &str, mut found: impl FnMut(u32)) {
        for head in self.heads_of(name) {
            let rest_of_name = &name.as_bytes()[head.text.len()..];
            for (rest, number) in &head.rests {
                if fits(rest.as_bytes(), rest_of_name) {
                    found(*number);
                }
            }
        }
        if !self.numbers.is_empty() {
            let matches = self.others.matches_candidate(&Candidate::new(name));
            matches
                .into_iter()
                .filter_map(|at| self.numbers.get(at))
                .for_each(|number| found(*number));
        }
    }

    /// The numbers of all patterns that match, in order, each once.
    pub(super) fn all(&self, name: &str) -> Vec<u32> {
        let mut all = self.exact(name).to_vec();
        self.globs(name, |number| all.push(number));
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The least number of the patterns that match.
    pub(super) fn first(&self, name: &str) -> Option<u32> {
        let mut first = self.exact(name).iter().copied().min();
        self.globs(name, |number| {
            first = Some(first.map_or(number, |least| least.min(number)))
        });
        first
    }

    /// The least number of the patterns which are this very name, else of the globs that match.
    pub(super) fn exact_first(&self, name: &str) -> Option<u32> {
        let exact = self.exact(name).iter().copied().min();
        exact.or_else(|| self.first(name))
    }

    /// The numbers of patterns which certainly match everything that `pattern` does: for a name all that match it, for a
    /// glob those of the form `abc*` which match its beginning. In order, each once.
    pub(super) fn covering(&self, pattern: &str) -> Vec<u32> {
        if is_name(pattern) {
            return self.all(pattern);
        }
        let rests = self.heads_of(head(pattern)).flat_map(|head| &head.rests);
        let mut all: Vec<u32> = rests.filter(|(rest, _)| **rest == *"*").map(|(_, n)| *n).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// Finds each head's parent. They are sorted: a head's parent is the one before it, or one of that one's parents.
fn link(heads: &mut [Head]) {
    for at in 1..heads.len() {
        let (before, rest) = heads.split_at_mut(at);
        let Some(head) = rest.first_mut() else { return };
        let mut parent = u32::try_from(at - 1).ok();
        while let Some(candidate) = parent.and_then(|n| before.get(usize::try_from(n).ok()?)) {
            if head.text.starts_with(&*candidate.text) {
                break;
            }
            parent = candidate.parent;
        }
        head.parent = parent;
    }
}

/// Whether a glob of letters, `*` (any bytes) and `?` (one byte) matches all of a text. Takes at most the product of
/// their lengths: after a mismatch only the last `*` has to take one byte more.
fn fits(glob: &[u8], text: &[u8]) -> bool {
    if glob == b"*" {
        return true;
    }
    let (mut g, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        match (glob.get(g), text.get(t)) {
            (Some(b'*'), _) => {
                star = Some((g + 1, t));
                g += 1;
            }
            (Some(b'?'), Some(_)) => (g, t) = (g + 1, t + 1),
            (Some(a), Some(b)) if a == b => (g, t) = (g + 1, t + 1),
            (None, None) => return true,
            _ => match star {
                Some((after, taken)) if taken < text.len() => {
                    star = Some((after, taken + 1));
                    (g, t) = (after, taken + 1);
                }
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(all: &[&str]) -> Patterns {
        Patterns::new(all.iter().zip(0..).map(|(p, n)| (*p, n))).unwrap()
    }

    #[test]
    fn the_first_wins() {
        let p = Patterns::new([("gpt-5-mini", 0), ("o1*", 1), ("gpt-*", 1), ("*/*", 2), ("*", 3)]).unwrap();
        let cases = [
            ("gpt-5-mini", 0),
            ("gpt-5", 1),
            ("o1-preview", 1),
            ("meta/llama", 2),
            ("a/b/c.d", 2),
            ("anything", 3),
            ("", 3),
        ];
        for (model, route) in cases {
            assert_eq!(p.first(model), Some(route), "{model}");
        }
        assert_eq!(patterns(&["gpt-*"]).first("llama"), None);
        assert_eq!(p.all("gpt-5-mini"), [0, 1, 3]);
        assert!(Patterns::default().all("x").is_empty());
    }

    #[test]
    fn a_star_crosses_slashes_and_dots() {
        let p = patterns(&["vendor*", "*-8b", "*.v2", "{a,b}-[0-9]?"]);
        assert_eq!(p.first("vendor/deep/model.x"), Some(0));
        assert_eq!(p.first("any/thing-8b"), Some(1));
        assert_eq!(p.first("x/y.z/m.v2"), Some(2));
        assert_eq!(p.first("b-7x"), Some(3));
        assert_eq!(p.first("b-x7"), None);
        assert_eq!(p.first("vendor\n"), Some(0), "a name is one text, whatever is in it");
        assert_eq!(p.first("vendé"), None);
    }

    #[test]
    fn the_very_name_wins_over_globs_if_so_asked() {
        let p = patterns(&["gpt-*", "gpt-5"]);
        assert_eq!((p.first("gpt-5"), p.exact_first("gpt-5")), (Some(0), Some(1)));
        assert_eq!(p.exact_first("gpt-4"), Some(0));
    }

    #[test]
    fn what_covers_a_glob() {
        let p = patterns(&["gpt-*", "*", "gpt-5*", "gpt-*-mini", "gpt-5", "[gh]pt-*"]);
        assert_eq!(p.covering("gpt-5"), [0, 1, 2, 4, 5]);
        assert_eq!(p.covering("gpt-5-*"), [0, 1, 2]);
        assert_eq!(p.covering("gpt-?"), [0, 1]);
        assert_eq!(p.covering("g*"), [1]);
        assert_eq!(p.covering("gpt-{5,6}"), [0, 1]);
    }

    #[test]
    fn a_long_name_takes_no_forever() {
        let p = patterns(&["*a*a*a*a*a*a*a*a*b"]);
        assert_eq!(p.first(&"a".repeat(100_000)), None);
    }

    proptest::proptest! {
        /// What the set says is what asking one glob after the other says.
        #[test]
        fn the_set_agrees_with_single_globs(
            all in proptest::collection::vec("[a-cé*?/.\\[\\]-]{1,6}", 1..12),
            model in "[a-cé/.-]{0,8}",
        ) {
            let all: Vec<String> = all.into_iter().filter(|p| glob(p).is_ok()).collect();
            let matching = |p: &String| glob(p).unwrap().compile_matcher().is_match(&model);
            let one_by_one: Vec<u32> = all.iter().zip(0..).filter(|(p, _)| matching(p)).map(|(_, n)| n).collect();
            let set = Patterns::new(all.iter().zip(0..).map(|(p, n)| (p.as_str(), n))).unwrap();
            proptest::prop_assert_eq!(set.first(&model), one_by_one.first().copied());
            proptest::prop_assert_eq!(set.all(&model), one_by_one);
        }

        /// What is said to cover a pattern matches every name that the pattern matches.
        #[test]
        fn what_covers_matches_all(
            all in proptest::collection::vec("[ab*?]{1,4}", 1..8),
            model in "[ab]{0,5}",
        ) {
            let set = Patterns::new(all.iter().zip(0..).map(|(p, n)| (p.as_str(), n))).unwrap();
            let matching = set.all(&model);
            for n in &matching {
                let covering = set.covering(&all[usize::try_from(*n).unwrap()]);
                proptest::prop_assert!(covering.iter().all(|c| matching.contains(c)));
            }
        }
    }
}
