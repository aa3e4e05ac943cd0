//! What may be there after several acts at once, in whatever order their steps
//! were taken, and after a crash in the middle of one.

use std::collections::BTreeSet;

use chunkgate::store::faulty::{Fault, Operation};

use super::command::{Act, Answer, Put};
use super::model::{FILES, Phase, Upload, Weather, World};

impl World {
    /// What may be there after these acts, which ran at once, were answered so:
    /// what is there after them one by one, in some order.
    pub(super) fn after_all(&self, acts: &[(Act, Answer)], weather: Weather<'_>) -> Vec<Self> {
        if acts.is_empty() {
            return vec![self.merged()];
        }
        let mut worlds = BTreeSet::new();
        for first in 0..acts.len() {
            let (act, answer) = &acts[first];
            let others: Vec<_> = acts.iter().enumerate().filter(|(i, _)| *i != first).map(|(_, a)| a.clone()).collect();
            for world in self.after_one(act, answer, weather) {
                worlds.extend(world.after_all(&others, weather));
            }
        }
        worlds.into_iter().collect()
    }

    fn after_one(&self, act: &Act, answer: &Answer, weather: Weather<'_>) -> Vec<Self> {
        let mut outcomes = self.outcomes(act, weather);
        if weather.together {
            outcomes.retain(|(allowed, _)| allowed.class() == answer.class());
            // A chunk that comes while the upload ends, or is merged, is refused as if it had come later.
            let refused = ["upload_aborted", "upload_expired", "store_unavailable"].contains(&answer.class());
            if refused && matches!(act, Act::Put(_)) {
                outcomes.extend(self.same(answer.clone()));
            }
            // Several may have waited for the merge that found it wrong, or come again before it was over.
            let is_wrong = |file: usize| self.files[file].as_ref().is_some_and(|upload| upload.phase == Phase::Wrong);
            let repeated = matches!(answer, Answer::Stored { completed: false, .. });
            if let Act::Put(put) = act
                && is_wrong(put.file)
                && (answer.class() == "integrity_failed" || repeated)
            {
                outcomes.extend(self.same(answer.clone()));
            }
            // Others see a merge that is under way.
            let is_merging = |file: usize| self.files[file].as_ref().is_some_and(|upload| upload.merging.is_some());
            let meets = match act {
                Act::Create(create) => create.restart && is_merging(create.file),
                Act::Abort(file) => is_merging(*file),
                Act::Put(_) | Act::Complete(_) | Act::Sweep => false,
            };
            if meets && answer.class() == "completing" {
                outcomes.extend(self.same(answer.clone()));
            }
            // It was admitted before another taught how the file is cut.
            if let (Act::Put(put), "upload_lost") = (act, answer.class())
                && weather.has(&[Operation::PutPart], &[Fault::NoSuchUpload])
                && let Some(upload) = self.files[put.file].as_ref().filter(|upload| upload.phase == Phase::Open)
            {
                let lost = Upload { phase: Phase::Lost, ..upload.clone() };
                outcomes.push((answer.clone(), self.with(put.file, lost)));
            }
        } else {
            outcomes.retain(|(allowed, _)| allowed == answer);
        }
        let mut worlds: Vec<Self> = outcomes.into_iter().map(|(_, world)| world).collect();
        if weather.together {
            worlds.extend(self.merging(act, answer, &worlds, weather));
        }
        worlds
    }

    /// As after these, but the merges have only begun: what others do meanwhile
    /// is done to an upload that is open.
    fn merging(&self, act: &Act, answer: &Answer, worlds: &[Self], weather: Weather<'_>) -> Vec<Self> {
        let (file, open) = match act {
            Act::Put(put) => (put.file, self.unmerged(put, weather)),
            Act::Complete(file) => (*file, vec![self.clone()]),
            Act::Create(_) | Act::Abort(_) | Act::Sweep => return Vec::new(),
        };
        let open: Vec<_> = open.iter().filter_map(|world| world.files[file].clone()).collect();
        let merged = worlds.iter().filter_map(|world| world.files[file].clone()).filter(|u| u.phase != Phase::Open);
        let full = || open.iter().filter(|upload| upload.is_full());
        let pairs = merged.flat_map(|merged| full().map(move |open| (open, merged.clone())));
        let begun = pairs.map(|(open, merged)| Upload { merging: Some(Box::new(merged)), ..open.clone() });
        // What ends it may also come after this: another's merge, an abort before the merge begins.
        let ends = ["upload_aborted", "upload_expired", "upload_lost", "failed", "store_unavailable"];
        let by_others = open.iter().filter(|_| ends.contains(&answer.class())).cloned();
        begun.chain(by_others).map(|upload| self.with(file, upload)).collect()
    }

    /// What a chunk makes of an upload that nobody merges.
    fn unmerged(&self, put: &Put, weather: Weather<'_>) -> Vec<Self> {
        let mut world = self.clone();
        let auto = self.files[put.file].as_ref().is_some_and(|upload| upload.auto);
        world.files[put.file].iter_mut().for_each(|upload| upload.auto = false);
        let mut worlds: Vec<Self> = world.put(put, weather).into_iter().map(|(_, world)| world).collect();
        worlds.iter_mut().flat_map(|world| &mut world.files[put.file]).for_each(|upload| upload.auto = auto);
        worlds
    }

    /// The merges that have begun have ended.
    fn merged(&self) -> Self {
        let mut world = self.clone();
        for upload in world.files.iter_mut().flatten() {
            match upload.merging.take() {
                Some(merged) if upload.phase == Phase::Open => *upload = *merged,
                Some(_) | None => {}
            }
        }
        world
    }

    /// What may be there when the gateway died in the middle of this.
    pub(super) fn after_crash(&self, act: &Act, weather: Weather<'_>) -> Vec<Self> {
        let mut worlds: BTreeSet<Self> = self.outcomes(act, weather).into_iter().map(|(_, world)| world).collect();
        worlds.insert(self.clone());
        if let Act::Put(put) = act {
            // Recorded, and not merged yet.
            worlds.extend(self.unmerged(put, weather));
        }
        for file in 0..FILES {
            for world in worlds.clone() {
                // Merging was begun; or this file's turn had not come.
                if let Some(upload) = world.files[file].as_ref().filter(|u| u.phase == Phase::Open && u.is_full()) {
                    worlds.insert(world.with(file, Upload { phase: Phase::Completing, ..upload.clone() }));
                }
                if let (Act::Sweep, Some(before)) = (act, &self.files[file]) {
                    worlds.insert(world.with(file, before.clone()));
                    if before.phase == Phase::Open && before.is_full() {
                        worlds.insert(world.with(file, Upload { phase: Phase::Completing, ..before.clone() }));
                    }
                }
            }
        }
        worlds.into_iter().collect()
    }
}
