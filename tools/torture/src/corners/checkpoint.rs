//! A checkpoint that cannot be written, for the disk is full: what was appended while its flush ran is
//! answered all the same.

use super::{Place, create, new_model};
use crate::checker;
use crate::disk::{FileSystem, Small};
use crate::pairs;
use crate::rng::Rng;
use std::time::Duration;

/// Without a journal a flush and its checkpoint are one after the other; with it they are apart.
const FLAGS: [&[&str]; 2] = [
    &["--checkpoint-bytes=4KiB", "--journal-bytes=0"],
    &["--checkpoint-bytes=4KiB"],
];
/// A checkpoint is due this long after the first record that it is to cover.
const UNTIL_DUE: Duration = Duration::from_millis(150);
/// Lives of the broker; in each a partition meets its first failure again.
const LIVES: usize = 4;

pub fn run(place: &Place) -> anyhow::Result<()> {
    let disk = Small::new(&place.scratch, FileSystem::Ext4)?;
    let rng = &mut Rng::new(place.seed);
    let model = new_model();
    for life in 0..LIVES {
        let (broker, address) = place.start(&disk.data_dir(), FLAGS[life % FLAGS.len()])?;
        if life == 0 {
            create(&model, address, pairs::topic(), &[])?;
        }
        // The first makes a checkpoint; what the second sends counts for the next.
        pairs::warm_up(&model, address)?;
        let apart = pairs::warm_up(&model, address)?;
        std::thread::sleep(UNTIL_DUE);
        model.allow_refusals(true);
        disk.keep_full(|| {
            pairs::send(&model, address, apart, rng)?;
            pairs::send(&model, address, apart, rng)?;
            Ok(checker::check(&model, address, None)?)
        })?;
        model.allow_refusals(false);
        broker.kill();
        disk.free()?;
    }
    Ok(())
}
