//! Samples, and the table that they make.

use crate::scene::Scene;
use crate::subjects::Subject;

/// One run of one subject.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) subject: Subject,
    pub(crate) parallel: u32,
    pub(crate) round: u32,
    /// In the scene's unit; none when not all went well.
    pub(crate) rate: Option<f64>,
    /// Processor time, in the scene's unit.
    pub(crate) cost: Option<f64>,
    pub(crate) peak_mib: Option<u64>,
}

/// The middle one; of two, the mean.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        1 => values.get(middle).copied(),
        _ => Some(f64::midpoint(*values.get(middle.checked_sub(1)?)?, *values.get(middle)?)),
    }
}

/// The table in Markdown: rates with their ratio to the yardstick, round by round, then
/// what it cost.
pub(crate) fn table(scene: Scene, samples: &[Sample], subjects: &[Subject], parallel: &[u32]) -> String {
    let of = |subject: Subject, parallel: u32| {
        samples.iter().filter(move |sample| sample.subject == subject && sample.parallel == parallel)
    };
    let ((yardstick, name), (unit, cost_unit)) = (scene.yardstick(), scene.units());
    let mut text = format!("| {unit} (× {name}) |");
    parallel.iter().for_each(|c| text.push_str(&format!(" c={c} |")));
    text.push_str(&format!(" {cost_unit} | peak MiB |\n|---|"));
    text.push_str(&"---|".repeat(parallel.len() + 2));
    for &subject in subjects {
        text.push_str(&format!("\n| {} |", subject.name()));
        for &c in parallel {
            let all: Vec<_> = of(subject, c).collect();
            let rates: Option<Vec<f64>> = all.iter().map(|sample| sample.rate).collect();
            let Some(rate) = rates.and_then(median) else {
                text.push_str(" failed |");
                continue;
            };
            let ratio = |sample: &&Sample| {
                let beside = of(yardstick, c).find(|beside| beside.round == sample.round)?.rate?;
                Some(sample.rate? / beside)
            };
            let ratios: Option<Vec<f64>> = all.iter().map(ratio).collect();
            let ratio = ratios.and_then(median).map_or(String::new(), |ratio| format!(" ({ratio:.2})"));
            text.push_str(&format!(" {rate:.0}{ratio} |"));
        }
        let cost = |c: &u32| median(of(subject, *c).filter_map(|sample| sample.cost).collect());
        let costs: Vec<String> = parallel.iter().filter_map(cost).map(|cost| format!("{cost:.2}")).collect();
        let peak = |c: &u32| of(subject, *c).filter_map(|sample| sample.peak_mib).max();
        let peaks: Vec<String> = parallel.iter().filter_map(peak).map(|peak| peak.to_string()).collect();
        text.push_str(&format!(" {} | {} |", costs.join(" · "), peaks.join(" · ")));
    }
    text
}
