"""The topics and methods of the papers of tasks 1 and 5."""

from programs.data.personas.words import table

# Topics, and the words that an author may use for each in a title.
TOPICS = table("""
    parsing: analysis, bracketing, structure
    translation: transfer, rendering, interpreting
    retrieval: search, ranking, lookup
    summarization: condensing, abridging, compression
    tagging: labeling, annotation, marking
    segmentation: splitting, chunking, partition
    alignment: matching, pairing, mapping
    dialogue: conversation, talk, interaction
    sentiment: opinion, attitude, emotion
    inference: reasoning, deduction, entailment
    speech: voice, audio, utterances
    morphology: inflection, stems, affixes
    discourse: coherence, rhetoric, narrative
    spelling: correction, orthography, typos
    humor: jokes, wit, irony
    poetry: verse, rhyme, meter
    negation: denial, polarity, scope
    pronouns: coreference, anaphora, reference
    dialects: varieties, accents, variation
    questions: answering, queries, quizzes
    captions: descriptions, subtitles, legends
    keywords: keyphrases, terms, phrases
    hashtags: topics, trends, threads
    emails: mail, letters, messages
    contracts: law, clauses, agreements
    recipes: cooking, instructions, dishes
    lyrics: songs, music, choruses
    proverbs: sayings, idioms, maxims
    headlines: titles, news, leads
    glossaries: lexicons, dictionaries, definitions
""")
METHODS = (
    "lattices kernels grammars automata forests graphs trees vectors filters prompts ensembles gradients templates "
    "rules clusters samples bandits oracles memories adapters mixtures priors sketches hashing voting pruning caching "
    "distillation bootstrapping quantization"
).split()
