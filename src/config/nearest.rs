//! What a misspelt name was meant to be.

use super::knob::Knob;

/// The known name that `name` was probably meant to be: that of the knob that Kafka calls `name`, else
/// the one with the fewest letters to change, if they are few.
pub fn nearest(
    name: &str,
    mut knobs: impl Iterator<Item = &'static Knob>,
    known: Vec<String>,
) -> Option<String> {
    let kafkas = knobs.find(|knob| knob.kafka == Some(name)).into_iter();
    let same = kafkas
        .flat_map(|knob| [knob.key(), knob.topic_name()])
        .find(|name| known.contains(name));
    same.or_else(|| {
        let ranked = known
            .into_iter()
            .map(|candidate| (edits(name, &candidate), candidate));
        ranked
            .filter(|(edits, _)| *edits <= name.len() / 3)
            .min()
            .map(|(_, candidate)| candidate)
    })
}

/// Levenshtein's distance: letters to insert, delete or replace to turn `a` into `b`.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, right) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}
