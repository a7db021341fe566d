//! Which route a model name takes: all globs of all routes in one set.

use globset::{Candidate, Glob, GlobBuilder, GlobSet, GlobSetBuilder};

/// Longest model name or glob.
pub(super) const MAX_PATTERN: usize = 256;

/// All globs, and whose each is.
#[derive(Debug)]
pub(super) struct Matcher {
    globs: GlobSet,
    /// The route of each glob.
    route: Vec<usize>,
}

impl Matcher {
    /// Compiles the model patterns of each route.
    pub(super) fn new<'r>(routes: impl Iterator<Item = &'r [String]>) -> Result<Self, globset::Error> {
        let mut builder = GlobSetBuilder::new();
        let mut route = Vec::new();
        for (n, models) in routes.enumerate() {
            for pattern in models {
                builder.add(glob(pattern)?);
                route.push(n);
            }
        }
        Ok(Matcher {
            globs: builder.build()?,
            route,
        })
    }

    /// The first route with a glob that matches.
    pub(super) fn first(&self, model: &str) -> Option<usize> {
        let matches = self.globs.matches_candidate(&Candidate::new(model));
        matches
            .into_iter()
            .filter_map(|glob| self.route.get(glob).copied())
            .min()
    }
}

/// One glob. `*` matches any characters, `/` too: a model's name is no path.
pub(super) fn glob(pattern: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern).literal_separator(false).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(routes: &[&[&str]]) -> Matcher {
        let routes: Vec<Vec<String>> = routes
            .iter()
            .map(|models| models.iter().map(|m| (*m).to_owned()).collect())
            .collect();
        Matcher::new(routes.iter().map(Vec::as_slice)).unwrap()
    }

    #[test]
    fn the_first_route_wins() {
        let m = matcher(&[&["gpt-5-mini"], &["o1*", "gpt-*"], &["*/*"], &["*"]]);
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
            assert_eq!(m.first(model), Some(route), "{model}");
        }
        assert_eq!(matcher(&[&["gpt-*"]]).first("llama"), None);
    }

    #[test]
    fn a_star_crosses_slashes_and_dots() {
        let m = matcher(&[&["vendor*"], &["*-8b"], &["*.v2"], &["{a,b}-[0-9]?"]]);
        assert_eq!(m.first("vendor/deep/model.x"), Some(0));
        assert_eq!(m.first("any/thing-8b"), Some(1));
        assert_eq!(m.first("x/y.z/m.v2"), Some(2));
        assert_eq!(m.first("b-7x"), Some(3));
        assert_eq!(m.first("b-x7"), None);
        assert_eq!(m.first("vendor\n"), Some(0), "a name is one text, whatever is in it");
    }

    proptest::proptest! {
        /// What the set says is what asking one glob after the other says.
        #[test]
        fn the_set_agrees_with_single_globs(
            patterns in proptest::collection::vec("[a-c*?/.-]{1,6}", 1..12),
            model in "[a-c/.-]{0,8}",
        ) {
            let one_by_one = patterns.iter().position(|p| glob(p).unwrap().compile_matcher().is_match(&model));
            let routes: Vec<Vec<String>> = patterns.iter().map(|p| vec![p.clone()]).collect();
            let set = Matcher::new(routes.iter().map(Vec::as_slice)).unwrap();
            proptest::prop_assert_eq!(set.first(&model), one_by_one);
        }
    }
}
