//! A lexicon: words and the concepts that they stand for.
//!
//! A model knows the words of its training articles alone. A lexicon says of many more words what they are about, so
//! that *hypocrisie* in the corpus and *duplicité* in an article meet in one term. It is data: a file of lines
//! `concept<TAB>entry`, where the entry is a word as the [tokenizer](crate::terms) reads it, or the beginning of words,
//! ended by `*`. A word can have several concepts and a concept any number of entries. Concepts whose name begins with
//! [`COUNTRY`] are states: [`Relations`] counts how many different ones a sentence names.
//!
//! The lexicon that a model was trained with is part of the model file.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use foldhash::fast::FixedState;

use crate::terms::{Reader, Word};

/// What the names of concepts that are states begin with.
pub const COUNTRY: &str = "country:";

/// Bytes of the longest name of a concept.
const LONGEST_NAME: usize = 64;

/// Characters of the longest entry. Each beginning of a word, up to the longest stem, is looked up.
const LONGEST_ENTRY: usize = 64;

/// The most concepts of an entry. With [`LONGEST_ENTRY`] it bounds what is kept for a word, whoever made the lexicon.
const MOST_CONCEPTS: usize = 16;

/// What an entry stands for; concepts are told by their indices.
type Entries = HashMap<String, Vec<u16>, FixedState>;

/// Words and their concepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lexicon {
    /// Names of the concepts, sorted; a concept is its index here.
    concepts: Vec<String>,
    /// For each concept whether it is a state.
    is_country: Vec<bool>,
    /// The terms that [`Relations`] finds, by [`relation`].
    relations: Vec<String>,
    words: Entries,
    stems: Entries,
    /// Characters of the shortest and of the longest stem.
    stem_lengths: (usize, usize),
}

/// Why a file is no lexicon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", line.map_or_else(String::new, |line| format!("line {line}: ")))]
pub struct InvalidLexicon {
    /// The line, counted from 1; none where it is about the file as a whole.
    pub line: Option<usize>,
    /// What is wrong with it.
    pub reason: String,
}

impl Lexicon {
    /// Reads a lexicon from its lines; blank lines and lines that begin with `#` are passed over.
    ///
    /// # Errors
    ///
    /// [`InvalidLexicon`] where a line is not `concept<TAB>entry`, an entry is not one word, is too long, appears twice, has too many
    /// concepts, or there is none.
    pub fn parse(text: &str) -> Result<Self, InvalidLexicon> {
        let mut entries: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        let mut reader = Reader::default();
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#')) {
            let invalid = |reason: String| InvalidLexicon { line: Some(at + 1), reason };
            let (concept, entry) = line
                .split_once('\t')
                .filter(|(_, entry)| !entry.contains('\t'))
                .ok_or_else(|| invalid("not a concept and an entry with one tab between them".into()))?;
            let named = !concept.is_empty() && concept.len() <= LONGEST_NAME && concept.chars().all(|c| c.is_ascii_graphic());
            if !named {
                return Err(invalid(format!(
                    "the concept {concept:?} is not a name of 1 to {LONGEST_NAME} ASCII characters without blanks"
                )));
            }
            let word = entry.strip_suffix('*').unwrap_or(entry);
            let mut read = Vec::new();
            reader.read(word, |word| read.push(word.text().to_owned()));
            if read != [word] {
                return Err(invalid(format!("the entry {entry:?} is not one word in lower case, with or without * at its end")));
            }
            if word.chars().nth(LONGEST_ENTRY).is_some() {
                return Err(invalid(format!("the entry {entry:?} has more than {LONGEST_ENTRY} characters")));
            }
            if !entries.entry(concept).or_default().insert(entry.to_owned()) {
                return Err(invalid(format!("{entry:?} appears twice under {concept:?}")));
            }
        }
        Self::new(&entries).map_err(|reason| InvalidLexicon { line: None, reason })
    }

    fn new(entries: &BTreeMap<&str, BTreeSet<String>>) -> Result<Self, String> {
        if entries.is_empty() {
            return Err("there is no entry".into());
        }
        let concepts: Vec<String> = entries.keys().map(|concept| (*concept).to_owned()).collect();
        let (mut words, mut stems) = (Entries::default(), Entries::default());
        for (concept, entries) in entries.values().enumerate() {
            let concept = u16::try_from(concept).map_err(|_| format!("{} concepts; there may be 65536", concepts.len()))?;
            for entry in entries {
                let (map, word) = entry.strip_suffix('*').map_or((&mut words, entry.as_str()), |stem| (&mut stems, stem));
                let of_entry = map.entry(word.to_owned()).or_default();
                of_entry.push(concept);
                if of_entry.len() > MOST_CONCEPTS {
                    return Err(format!("the entry {entry:?} has more than {MOST_CONCEPTS} concepts"));
                }
            }
        }
        let lengths = || stems.keys().map(|stem| stem.chars().count());
        Ok(Self {
            is_country: concepts.iter().map(|concept| concept.starts_with(COUNTRY)).collect(),
            relations: ["2 countries".to_owned(), "3 countries".to_owned()]
                .into_iter()
                .chain(concepts.iter().flat_map(|concept| [format!("{concept} + country"), format!("{concept} + 2 countries")]))
                .flat_map(|term| {
                    let of_lead = format!("lead: {term}");
                    [term, of_lead]
                })
                .collect(),
            stem_lengths: (lengths().min().unwrap_or(0), lengths().max().unwrap_or(0)),
            concepts,
            words,
            stems,
        })
    }

    /// The lexicon as lines, sorted: what [`parse`](Self::parse) reads.
    #[must_use]
    pub fn to_text(&self) -> String {
        let line = |word: &str, mark: &str, concept: &u16| format!("{}\t{word}{mark}\n", self.concepts[usize::from(*concept)]);
        let words = self.words.iter().flat_map(|(word, concepts)| concepts.iter().map(move |concept| line(word, "", concept)));
        let stems = self.stems.iter().flat_map(|(stem, concepts)| concepts.iter().map(move |concept| line(stem, "*", concept)));
        words.chain(stems).collect::<BTreeSet<String>>().into_iter().collect()
    }

    /// The number of concepts.
    #[must_use]
    pub fn concepts(&self) -> usize {
        self.concepts.len()
    }

    /// The name of a concept.
    ///
    /// # Panics
    ///
    /// When there is no such concept.
    #[must_use]
    pub fn name(&self, concept: u16) -> &str {
        &self.concepts[usize::from(concept)]
    }

    /// Whether a concept is a state.
    ///
    /// # Panics
    ///
    /// When there is no such concept.
    #[must_use]
    pub fn is_country(&self, concept: u16) -> bool {
        self.is_country[usize::from(concept)]
    }

    /// The terms that [`Relations`] finds by their index.
    #[must_use]
    pub fn relations(&self) -> &[String] {
        &self.relations
    }

    /// Puts the concepts of `word` into `found`, in order, none twice.
    pub fn look_up(&self, word: Word<'_>, found: &mut Vec<u16>) {
        found.clear();
        found.extend(self.words.get(word.text()).into_iter().flatten());
        // A padded word has two characters more than the word, and its own begin at the second.
        let (shortest, longest) = self.stem_lengths;
        for length in shortest..=longest.min(word.length() - 2) {
            found.extend(self.stems.get(word.beginning(length)).into_iter().flatten());
        }
        found.sort_unstable();
        found.dedup();
    }
}

/// The index among [`Lexicon::relations`] of the term of `concept` beside `countries` states, one or two; without a concept,
/// of two or three states in one sentence. The same term of the lead follows it.
fn relation(concept: Option<u16>, countries: usize) -> usize {
    match concept {
        Some(concept) => 4 + 4 * usize::from(concept) + 2 * (countries - 1),
        None => 2 * (countries - 2),
    }
}

/// Sentences at the beginning of a document that are its lead: the title and the first of the text. The codebook of
/// most news decides by these.
const LEAD: usize = 2;

/// Finds, sentence by sentence, what stands beside states.
///
/// A sentence that names two different states makes the term `2 countries`, one with three `3 countries` besides. Each
/// other concept of a sentence makes `CONCEPT + country` beside a state and `CONCEPT + 2 countries` beside two. In the
/// lead, the first two sentences, each of these comes a second time, with `lead: ` before it. A term comes once a sentence, at the word
/// that completes it. "The two armies" says little; beside two states it is what their cooperation looks like.
#[derive(Debug, Default)]
pub struct Relations {
    /// The states of the sentence so far.
    countries: Vec<u16>,
    /// The other concepts of the sentence so far.
    concepts: Vec<u16>,
    /// Whether the sentence has a word.
    begun: bool,
    /// Sentences that have ended.
    ended: usize,
}

impl Relations {
    /// Begins another document.
    pub fn clear(&mut self) {
        self.end_sentence();
        self.ended = 0;
    }

    /// Ends the sentence, if it has a word.
    pub fn end_sentence(&mut self) {
        self.ended += usize::from(std::mem::take(&mut self.begun));
        self.countries.clear();
        self.concepts.clear();
    }

    /// Takes in the `concepts` of the next word; calls `found` for each term that it completes, with its index among
    /// [`Lexicon::relations`].
    pub fn next(&mut self, lexicon: &Lexicon, concepts: impl IntoIterator<Item = u16>, mut found: impl FnMut(usize)) {
        self.begun = true;
        let names = if self.ended < LEAD { 2 } else { 1 };
        let mut found = |term: usize| (term..term + names).for_each(&mut found);
        for concept in concepts {
            if lexicon.is_country[usize::from(concept)] {
                if self.countries.contains(&concept) {
                    continue;
                }
                self.countries.push(concept);
                let nth = self.countries.len();
                if (2..=3).contains(&nth) {
                    found(relation(None, nth));
                }
                if nth <= 2 {
                    self.concepts.iter().for_each(|other| found(relation(Some(*other), nth)));
                }
            } else if !self.concepts.contains(&concept) {
                self.concepts.push(concept);
                (1..=self.countries.len().min(2)).for_each(|nth| found(relation(Some(concept), nth)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "RANK\tgénéral\nVISIT\tvisit*\nVISIT\tarrivé\nARRIVAL\tarrivé\ncountry:DZ\talgé*\ncountry:NE\tniger\n";

    fn names(lexicon: &Lexicon, text: &str) -> Vec<Vec<String>> {
        let (mut found, mut all) = (Vec::new(), Vec::new());
        Reader::default().read(text, |word| {
            lexicon.look_up(word, &mut found);
            all.push(found.iter().map(|concept| lexicon.name(*concept).to_owned()).collect());
        });
        all
    }

    #[test]
    fn words_and_stems_are_found_in_any_case_and_form() {
        let lexicon = Lexicon::parse(LINES).unwrap();
        let found = names(&lexicon, "Le GÉNÉRAL visita, arrivé à Alger ; e\u{301} visite vis généraux");
        let expected: [&[&str]; 10] = [&[], &["RANK"], &["VISIT"], &["ARRIVAL", "VISIT"], &[], &[], &[], &["VISIT"], &[], &[]];
        assert_eq!(found, expected.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()));
        assert_eq!(names(&lexicon, "algérien"), [["country:DZ"]]);
    }

    #[test]
    fn a_lexicon_has_one_form_whatever_the_order_of_its_lines() {
        let reversed: String = LINES.lines().rev().flat_map(|line| [line, "\n"]).collect();
        let lexicon = Lexicon::parse(&format!("# a comment\n\n{reversed}")).unwrap();
        assert_eq!(lexicon, Lexicon::parse(LINES).unwrap());
        assert_eq!(Lexicon::parse(&lexicon.to_text()).unwrap(), lexicon);
        assert!(lexicon.to_text().lines().is_sorted());
    }

    #[test]
    fn what_is_no_lexicon_is_refused_with_line_and_reason() {
        let refusal = |text: &str| Lexicon::parse(text).unwrap_err().to_string();
        assert_eq!(refusal("A\ta\nA a\n"), "line 2: not a concept and an entry with one tab between them");
        assert!(refusal("A\ta\tb").contains("one tab"));
        assert!(refusal("A B\ta").starts_with("line 1: the concept \"A B\" is not a name"));
        for entry in ["", "*", "Été", "deux mots", "l'armée", "a**"] {
            assert!(refusal(&format!("A\t{entry}")).contains("is not one word in lower case"), "{entry}");
        }
        assert_eq!(refusal("A\ta\nA\ta"), "line 2: \"a\" appears twice under \"A\"");
        assert_eq!(refusal("# nothing\n"), "there is no entry");
    }

    #[test]
    fn an_entry_has_a_bounded_length_and_number_of_concepts() {
        let of_length = |length: usize| Lexicon::parse(&format!("A\t{}*\n", "é".repeat(length)));
        assert_eq!(of_length(LONGEST_ENTRY).unwrap().stem_lengths, (LONGEST_ENTRY, LONGEST_ENTRY));
        assert!(of_length(LONGEST_ENTRY + 1).unwrap_err().to_string().ends_with("has more than 64 characters"));
        let of_concepts = |count: usize| Lexicon::parse(&(0..count).map(|n| format!("C{n}\ta*\n")).collect::<String>());
        assert_eq!(names(&of_concepts(MOST_CONCEPTS).unwrap(), "ab")[0].len(), MOST_CONCEPTS);
        let refusal = of_concepts(MOST_CONCEPTS + 1).unwrap_err().to_string();
        assert_eq!(refusal, "the entry \"a*\" has more than 16 concepts");
    }

    #[test]
    fn concepts_beside_states_are_found_once_a_sentence() {
        let lexicon = Lexicon::parse(LINES).unwrap();
        let terms = |sentences: &[&str]| {
            let (mut relations, mut found, mut all) = (Relations::default(), Vec::new(), Vec::new());
            for sentence in sentences {
                relations.end_sentence();
                Reader::default().read(sentence, |word| {
                    lexicon.look_up(word, &mut found);
                    let term = |term: usize| all.push(format!("{} @{}", lexicon.relations()[term], word.text()));
                    relations.next(&lexicon, found.iter().copied(), term);
                });
            }
            all
        };
        let lead = ["Un titre", "Une phrase"];
        // The rank waits for its states; the visit finds both there already.
        let sentence = "Le général algérien, général du Niger, visite le Niger en visite";
        assert_eq!(
            terms(&[lead[0], lead[1], sentence]),
            [
                "RANK + country @algérien",
                "2 countries @niger",
                "RANK + 2 countries @niger",
                "VISIT + country @visite",
                "VISIT + 2 countries @visite"
            ]
        );
        // In the lead every term comes twice; an empty sentence is none.
        assert_eq!(terms(&["", "Titre", "Général, Niger"]), ["RANK + country @niger", "lead: RANK + country @niger"]);
        assert_eq!(terms(&["Un général au Mali", "Une visite"]), Vec::<String>::new());
    }
}
