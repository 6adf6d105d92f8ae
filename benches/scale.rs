//! Training on ever more articles in bounded memory: `cargo bench --bench scale -- --articles 10000,100000,1000000 --memory 6G`.
//!
//! Makes articles of words as frequent as in a language (Zipf–Mandelbrot), some of which tell the label; trains on them in a process of its own, and
//! tells time, greatest resident memory (from /proc, so it runs on Linux alone), temporary files, and the accuracy on articles held out.
//! A million articles take 4 GB of disk, and four times as much again while they are trained on.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark tells a person, and fails by panicking")]

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;

/// Trains on generated articles.
#[derive(Debug, Parser)]
struct Args {
    /// Numbers of articles
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 100_000])]
    articles: Vec<usize>,
    /// The memory that training may take
    #[arg(long, default_value = "6G")]
    memory: String,
    /// Where articles, models and temporary files go
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/scale"))]
    folder: PathBuf,
    /// A plot of time and memory to write, .svg
    #[arg(long)]
    plot: Option<PathBuf>,
    /// Don't calibrate; otherwise, on a tenth of the articles
    #[arg(long)]
    uncalibrated: bool,
    /// The greatest component of the gradient at which the solver is done; training's default where not given
    #[arg(long)]
    tolerance: Option<String>,
    /// Threads of the training; 0: one a core
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Given by cargo; means nothing
    #[arg(long, hide = true)]
    bench: bool,
}

/// Different words of the language.
const WORDS: usize = 2_000_000;

/// The rank from which words are rare faster.
const COMMON: f64 = 8000.0;

const LABELS: [&str; 3] = ["commerce", "culture", "sport"];

/// Words that tell a label, for each.
const TELLING: usize = 100;

/// One word in so many of an article is one that tells its label; half as many tell any.
const ONE_IN: u64 = 100;

/// One label in so many is drawn anew, so that no model can be right throughout.
const WRONG: u64 = 50;

/// Random numbers (SplitMix64; Steele, Lea & Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        // The bias is one in 2^40 for the bounds here.
        self.next() % bound
    }

    #[expect(clippy::cast_precision_loss, reason = "53 bits are what a real has")]
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The language: words, and how frequent each is.
struct Language {
    words: Vec<String>,
    /// Walker's alias method: for each word how much of its column is its own, and whose the rest is.
    columns: Vec<(f64, u32)>,
}

impl Language {
    fn new() -> Self {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let frequency = |rank: usize| {
            let rank = rank as f64 + 2.7;
            // Zipf–Mandelbrot for the words that everybody uses, a steeper slope for the others (Ferrer i Cancho & Solé 2001).
            if rank < COMMON { 1.0 / rank } else { (COMMON / rank).powf(1.9) / COMMON }
        };
        let weights: Vec<f64> = (0..WORDS).map(frequency).collect();
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let mean = weights.iter().sum::<f64>() / WORDS as f64;
        let mut columns: Vec<(f64, u32)> = weights.iter().map(|weight| (weight / mean, 0)).collect();
        let (mut low, mut high): (Vec<usize>, Vec<usize>) = (0..WORDS).partition(|at| columns[*at].0 < 1.0);
        while let (Some(small), Some(great)) = (low.pop(), high.last().copied()) {
            columns[small].1 = u32::try_from(great).unwrap();
            columns[great].0 -= 1.0 - columns[small].0;
            if columns[great].0 < 1.0 {
                low.extend(high.pop());
            }
        }
        Self { words: (0..WORDS).map(word).collect(), columns }
    }

    fn draw(&self, random: &mut Random) -> &str {
        let at = usize::try_from(random.below(WORDS as u64)).unwrap();
        let (own, other) = self.columns[at];
        &self.words[if random.unit() < own { at } else { other as usize }]
    }

    /// A word that tells a label: neither frequent nor rare.
    fn telling(&self, label: usize, random: &mut Random) -> &str {
        let nth = usize::try_from(random.below(TELLING as u64)).unwrap();
        &self.words[500 + 25 * (nth * LABELS.len() + label)]
    }
}

/// The word of a rank: syllables, more of them the rarer it is.
fn word(rank: usize) -> String {
    const ONSETS: [&str; 16] = ["", "b", "ch", "d", "f", "g", "l", "m", "n", "p", "qu", "r", "s", "t", "tr", "v"];
    const RHYMES: [&str; 16] = ["a", "e", "é", "i", "o", "ou", "an", "on", "in", "ai", "eur", "tion", "es", "al", "ir", "ent"];
    let mut rest = rank;
    let mut word = String::new();
    loop {
        word += ONSETS[rest % 16];
        word += RHYMES[rest / 16 % 16];
        rest /= 256;
        if rest == 0 {
            return word;
        }
        rest -= 1;
    }
}

impl Language {
    fn sentences(&self, label: usize, words: usize, random: &mut Random) -> String {
        let (mut text, mut left, mut begins) = (String::new(), 0, true);
        for at in 0..words {
            let word = match random.below(2 * ONE_IN) {
                0 | 1 => self.telling(label, random),
                2 => {
                    let any = usize::try_from(random.below(LABELS.len() as u64)).unwrap();
                    self.telling(any, random)
                }
                _ => self.draw(random),
            };
            if begins {
                let mut letters = word.chars();
                text.extend(letters.next().into_iter().flat_map(char::to_uppercase));
                text += letters.as_str();
                left = 6 + random.below(20);
            } else {
                text += word;
            }
            begins = left == 0 || at + 1 == words;
            left = left.saturating_sub(1);
            text += if !begins {
                " "
            } else if random.below(6) == 0 {
                ".\n"
            } else {
                ". "
            };
        }
        text.truncate(text.trim_end().len());
        text
    }

    /// A line of JSON.
    fn article(&self, id: usize, random: &mut Random) -> String {
        let label = usize::try_from(random.below(LABELS.len() as u64)).unwrap();
        let title = self.sentences(label, 8, random);
        // 650 words on average, mostly between 250 and 1,050.
        let words = 50 + usize::try_from((0..3).map(|_| random.below(400)).sum::<u64>()).unwrap();
        let text = self.sentences(label, words, random);
        let said = if random.below(WRONG) == 0 { usize::try_from(random.below(LABELS.len() as u64)).unwrap() } else { label };
        serde_json::json!({"id": id, "title": title, "text": text, "topic": LABELS[said]}).to_string()
    }

    /// A file of so many articles, which is made unless it is there.
    fn file(&self, folder: &Path, articles: usize, seed: u64) -> PathBuf {
        let file = folder.join(format!("articles-{articles}-{seed}.jsonl"));
        if !file.exists() {
            let part = file.with_extension("part");
            let mut out = BufWriter::new(File::create(&part).unwrap());
            let mut random = Random(seed);
            (0..articles).for_each(|id| writeln!(out, "{}", self.article(id, &mut random)).unwrap());
            out.into_inner().unwrap().sync_all().unwrap();
            fs::rename(part, &file).unwrap();
        }
        file
    }
}

/// What a training run took.
struct Measured {
    articles: usize,
    text: u64,
    time: Duration,
    /// MiB.
    resident: f64,
    /// MiB, as the program tells.
    temporary: f64,
    accuracy: f64,
}

fn train(args: &Args, articles: usize, data: &Path, held_out: &Path) -> Measured {
    let model = args.folder.join("model.safetensors");
    let mut command = Command::new(env!("CARGO_BIN_EXE_depeche"));
    command.args(["train", "--max-features", "10000,30000,20000"]);
    match args.uncalibrated {
        true => command.args(["--calibration-folds", "0"]),
        false => command.args(["--calibration-folds", "10", "--held-out-folds", "1"]),
    };
    command.arg("--data").arg(data).arg("--out").arg(&model).args(["--memory", &args.memory]);
    command.arg("--temporary-folder").arg(&args.folder).args(["--threads", &args.threads.to_string()]);
    if let Some(tolerance) = &args.tolerance {
        command.args(["--tolerance", tolerance]);
    }
    let started = Instant::now();
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut resident: f64 = 0.0;
    while child.try_wait().unwrap().is_none() {
        // The peak only ever grows, and is gone with the process.
        let status = fs::read_to_string(&status).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).and_then(|line| line.split_whitespace().next());
        resident = resident.max(peak.map_or(0.0, |peak| peak.parse::<f64>().unwrap() / 1024.0));
        std::thread::sleep(Duration::from_millis(20));
    }
    let time = started.elapsed();
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(child.wait().unwrap().success(), "{told}");
    let temporary = told.split("temporary files: ").nth(1).and_then(|rest| rest.split(' ').next());
    let mut command = Command::new(env!("CARGO_BIN_EXE_depeche"));
    let evaluated =
        command.arg("evaluate").arg("--model").arg(&model).arg("--data").arg(held_out).arg("--json").output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&evaluated.stdout).unwrap();
    Measured {
        articles,
        text: fs::metadata(data).unwrap().len(),
        time,
        resident,
        temporary: temporary.map_or(0.0, |mib| mib.parse().unwrap()),
        accuracy: report["topic"]["accuracy"].as_f64().unwrap(),
    }
}

/// Time and memory over the number of articles, both axes logarithmic.
fn plot(measured: &[Measured]) -> String {
    const SIZE: (f64, f64) = (640.0, 400.0);
    const MARGIN: f64 = 60.0;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let x = |articles: usize| (articles as f64).log10();
    let (first, last) = (x(measured[0].articles), x(measured[measured.len() - 1].articles));
    let place = |at: f64, decades: f64| {
        let across = MARGIN + (at - first) / (last - first).max(1e-9) * (SIZE.0 - 2.0 * MARGIN);
        (across, SIZE.1 - MARGIN - decades / 4.0 * (SIZE.1 - 2.0 * MARGIN))
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        SIZE.0, SIZE.1
    );
    for decade in 0..=4 {
        let (left, height) = place(first, f64::from(decade));
        let value = 10_u32.pow(decade);
        writeln!(svg, "<line x1=\"{left}\" y1=\"{height}\" x2=\"{}\" y2=\"{height}\" stroke=\"#ddd\"/>", SIZE.0 - MARGIN)
            .unwrap();
        writeln!(svg, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{value}</text>", left - 6.0, height + 4.0).unwrap();
    }
    for of in measured {
        let (across, _) = place(x(of.articles), 0.0);
        let below = SIZE.1 - MARGIN + 20.0;
        writeln!(svg, "<text x=\"{across}\" y=\"{below}\" text-anchor=\"middle\">{}</text>", of.articles).unwrap();
    }
    let series = [("seconds", "#1f77b4"), ("resident memory, MiB", "#d62728"), ("temporary files, MiB", "#2ca02c")];
    for (nth, (name, colour)) in series.into_iter().enumerate() {
        let value = |of: &Measured| [of.time.as_secs_f64(), of.resident, of.temporary][nth];
        let points = measured.iter().map(|of| place(x(of.articles), value(of).max(1.0).log10()));
        let points: Vec<String> = points.map(|(across, height)| format!("{across:.1},{height:.1}")).collect();
        writeln!(svg, "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>", points.join(" "))
            .unwrap();
        for point in &points {
            let (across, height) = point.split_once(',').unwrap();
            writeln!(svg, "<circle cx=\"{across}\" cy=\"{height}\" r=\"4\" fill=\"{colour}\"/>").unwrap();
        }
        let across = 150 * nth + 80;
        writeln!(svg, "<text x=\"{across}\" y=\"24\" fill=\"{colour}\">{name}</text>").unwrap();
    }
    svg + "</svg>\n"
}

fn main() {
    let args = Args::parse();
    fs::create_dir_all(&args.folder).unwrap();
    let language = Language::new();
    // Articles to learn from begin with another seed than those that are held out.
    let held_out = language.file(&args.folder, 3000, 1);
    let mut measured = Vec::new();
    println!("| articles | text, MB | training, s | ms an article | resident, MiB | temporary files, MiB | accuracy |");
    println!("|---|---|---|---|---|---|---|");
    for articles in &args.articles {
        let data = language.file(&args.folder, *articles, 2);
        let of = train(&args, *articles, &data, &held_out);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let (megabytes, each) = (of.text as f64 / 1e6, 1e3 * of.time.as_secs_f64() / of.articles as f64);
        let Measured { time, resident, temporary, accuracy, .. } = &of;
        println!(
            "| {articles} | {megabytes:.0} | {:.1} | {each:.2} | {resident:.0} | {temporary:.0} | {accuracy:.4} |",
            time.as_secs_f64()
        );
        measured.push(of);
    }
    if let Some(file) = &args.plot {
        fs::write(file, plot(&measured)).unwrap();
    }
}
