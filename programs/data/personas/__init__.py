"""The persona world: synthetic data in LaMP's format with known truth, one file for each task."""

from programs.data.personas import citations, films, headlines, products, scholarly, tweets

MAKERS = {
    "lamp1": citations.case,
    "lamp2": films.case,
    "lamp3": products.case,
    "lamp4": headlines.case,
    "lamp5": scholarly.case,
    "lamp7": tweets.case,
}
