//! The metrics of a broker, read back from Prometheus' text format.

use std::collections::BTreeMap;

/// One value, and the labels that tell it from others of its family.
#[derive(Clone, Debug, PartialEq)]
struct Sample {
    labels: Vec<(String, String)>,
    value: f64,
}

impl Sample {
    fn label(&self, name: &str) -> Option<&str> {
        let found = self.labels.iter().find(|(label, _)| label == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// All metrics as of one moment.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    samples: BTreeMap<String, Vec<Sample>>,
}

impl Metrics {
    /// Reads a page of `/metrics`. A line that makes no sense is left out.
    pub fn parse(page: &str) -> Metrics {
        let mut samples = BTreeMap::<String, Vec<Sample>>::new();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            if let Some((name, sample)) = sample(line) {
                samples.entry(name.to_owned()).or_default().push(sample);
            }
        }
        Metrics { samples }
    }

    /// The sum of all samples of `name`; 0 where there is none.
    pub fn sum(&self, name: &str) -> f64 {
        // Summing nothing gives -0.
        self.of(name).map(|sample| sample.value).sum::<f64>() + 0.0
    }

    /// The least of all samples of `name`.
    pub fn min(&self, name: &str) -> Option<f64> {
        self.of(name).map(|sample| sample.value).reduce(f64::min)
    }

    /// The largest of all samples of `name`.
    pub fn max(&self, name: &str) -> Option<f64> {
        self.of(name).map(|sample| sample.value).reduce(f64::max)
    }

    /// The samples of `name` by the value of one of their labels; those that share it are summed up.
    pub fn by(&self, name: &str, label: &str) -> BTreeMap<&str, f64> {
        self.fold(name, label, |a, b| a + b)
    }

    /// As [`by`](Self::by), with the largest of those that share the label.
    pub fn max_by(&self, name: &str, label: &str) -> BTreeMap<&str, f64> {
        self.fold(name, label, f64::max)
    }

    /// The only samples of `name` with `label` = `value`, by another label.
    pub fn where_by(&self, name: &str, label: &str, value: &str, by: &str) -> BTreeMap<&str, f64> {
        let wanted = self.of(name).filter(|s| s.label(label) == Some(value));
        wanted
            .filter_map(|s| Some((s.label(by)?, s.value)))
            .collect()
    }

    /// What a label of the first sample of `name` says.
    pub fn label(&self, name: &str, label: &str) -> Option<&str> {
        self.of(name).next()?.label(label)
    }

    fn of(&self, name: &str) -> impl Iterator<Item = &Sample> {
        self.samples.get(name).into_iter().flatten()
    }

    fn fold(&self, name: &str, label: &str, both: fn(f64, f64) -> f64) -> BTreeMap<&str, f64> {
        let mut folded = BTreeMap::new();
        for sample in self.of(name) {
            if let Some(which) = sample.label(label) {
                let known = folded.entry(which).or_insert(None);
                *known = Some(known.map_or(sample.value, |known| both(known, sample.value)));
            }
        }
        let known = folded.into_iter();
        known
            .filter_map(|(which, value)| Some((which, value?)))
            .collect()
    }
}

/// `name{label="value",…} 1.5`, or without labels.
fn sample(line: &str) -> Option<(&str, Sample)> {
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.push((label.to_owned(), value));
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    // A time may stand behind the value.
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some((name, Sample { labels, value }))
}

/// What stands before the closing quote, without its escapes, and what stands behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match letters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_their_labels_and_summed_up() {
        let metrics = Metrics::parse(
            "# HELP x Things.\n# TYPE x gauge\n\
             x{shard=\"0\"} 1\nx{shard=\"1\"} 2.5\n\
             lag{group=\"a,b=}\\\"\\\\\\n\",partition=\"0\"} 3\nlag{group=\"g\",partition=\"1\"} 4\n\
             lag{group=\"g\",partition=\"2\"} 6\n\
             plain 7\nbroken{a=\"b\nempty\nnot_a_number x\n",
        );
        assert_eq!(metrics.sum("x"), 3.5);
        assert_eq!(metrics.min("x"), Some(1.0));
        assert_eq!(metrics.max("x"), Some(2.5));
        assert_eq!(metrics.sum("plain"), 7.0);
        assert_eq!(metrics.sum("missing"), 0.0);
        assert_eq!(metrics.min("missing"), None);
        let odd = "a,b=}\"\\\n";
        assert_eq!(metrics.by("lag", "group"), [(odd, 3.0), ("g", 10.0)].into());
        assert_eq!(metrics.max_by("lag", "group")["g"], 6.0);
        let of_g = metrics.where_by("lag", "group", "g", "partition");
        assert_eq!(of_g, [("1", 4.0), ("2", 6.0)].into());
        assert_eq!(metrics.label("x", "shard"), Some("0"));
        assert_eq!(metrics.sum("broken"), 0.0);
    }
}
