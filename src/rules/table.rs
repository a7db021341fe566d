//! What is known by provider and model name: prices, limits.

use std::collections::HashMap;

use super::patterns::Patterns;

/// One line of the table.
pub(super) struct Line<T> {
    /// The provider it is for; `None`: all.
    pub(super) provider: Option<Box<str>>,
    /// Names and globs.
    pub(super) names: Vec<String>,
    /// What is known.
    pub(super) value: T,
}

/// Values by provider and model. A line for the provider wins over one for all; then a line with the very name over one
/// with a glob; then the earlier over the later.
#[derive(Debug)]
pub(super) struct ByModel<T> {
    of: HashMap<Box<str>, Part<T>>,
    all: Part<T>,
}

#[derive(Debug)]
struct Part<T> {
    patterns: Patterns,
    values: Vec<T>,
}

impl<T> Default for Part<T> {
    fn default() -> Self {
        Part {
            patterns: Patterns::default(),
            values: Vec::new(),
        }
    }
}

impl<T> Default for ByModel<T> {
    fn default() -> Self {
        ByModel {
            of: HashMap::new(),
            all: Part::default(),
        }
    }
}

impl<T> Part<T> {
    fn new(lines: Vec<(Vec<String>, T)>) -> Result<Self, globset::Error> {
        let numbered = lines.iter().zip(0_u32..);
        let patterns = numbered.flat_map(|((names, _), n)| names.iter().map(move |name| (name.as_str(), n)));
        Ok(Part {
            patterns: Patterns::new(patterns)?,
            values: lines.into_iter().map(|(_, value)| value).collect(),
        })
    }

    fn get(&self, model: &str) -> Option<&T> {
        self.value(self.patterns.exact_first(model)?)
    }

    fn value(&self, number: u32) -> Option<&T> {
        self.values.get(usize::try_from(number).ok()?)
    }

    /// The first of the lines that match, the very name before globs, of which there is something to tell.
    fn find<'t, R: 't>(&'t self, model: &str, tell: impl Fn(&'t T) -> Option<R>) -> Option<R> {
        let first = tell(self.get(model)?);
        if first.is_some() {
            return first;
        }
        let mut globs = self.patterns.all(model).into_iter();
        let mut exact = self.patterns.exact(model).iter().copied();
        let rest = exact.find_map(|number| tell(self.value(number)?));
        rest.or_else(|| globs.find_map(|number| tell(self.value(number)?)))
    }
}

impl<T> ByModel<T> {
    /// Sorts the lines. An error is a glob's own, or that they are too large together.
    pub(super) fn new(lines: Vec<Line<T>>) -> Result<Self, globset::Error> {
        let mut all = Vec::new();
        let mut of: HashMap<Box<str>, Vec<_>> = HashMap::new();
        for line in lines {
            let part = match line.provider {
                Some(provider) => of.entry(provider).or_default(),
                None => &mut all,
            };
            part.push((line.names, line.value));
        }
        let of = of
            .into_iter()
            .map(|(provider, lines)| Ok((provider, Part::new(lines)?)));
        Ok(ByModel {
            of: of.collect::<Result<_, globset::Error>>()?,
            all: Part::new(all)?,
        })
    }

    /// What is known of the model at the provider.
    pub(super) fn get(&self, provider: &str, model: &str) -> Option<&T> {
        let own = self.of.get(provider).and_then(|part| part.get(model));
        own.or_else(|| self.all.get(model))
    }

    /// As [`ByModel::get`], over lines of which there may be nothing to tell: the next is asked then. Allocates only
    /// where the first has nothing.
    pub(super) fn find<'t, R: 't>(
        &'t self,
        provider: &str,
        model: &str,
        tell: impl Fn(&'t T) -> Option<R>,
    ) -> Option<R> {
        let own = self.of.get(provider).and_then(|part| part.find(model, &tell));
        own.or_else(|| self.all.find(model, &tell))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_line_wins() {
        let line = |provider: Option<&str>, names: &[&str], value| Line {
            provider: provider.map(Into::into),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            value,
        };
        let table = ByModel::new(vec![
            line(None, &["m*"], 0),
            line(None, &["m1", "n"], 1),
            line(None, &["m1"], 2),
            line(Some("p"), &["*"], 3),
            line(Some("p"), &["m1"], 4),
            line(Some("q"), &["z"], 5),
        ])
        .unwrap();
        for (provider, model, value) in [
            ("x", "m1", Some(&1)),
            ("x", "m2", Some(&0)),
            ("x", "n", Some(&1)),
            ("x", "y", None),
            ("p", "m1", Some(&4)),
            ("p", "n", Some(&3)),
            ("q", "n", Some(&1)),
        ] {
            assert_eq!(table.get(provider, model), value, "{provider} {model}");
        }
    }
}
