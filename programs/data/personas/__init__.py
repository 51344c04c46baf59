"""The persona world: synthetic data in LaMP's format with known truth, one file for each task."""

from programs.data.personas import advice, citations, films, headlines, products, reviews, scholarly, tweets

MAKERS = {  # of what the pocket model was trained on
    "lamp1": citations.case,
    "lamp2": films.case,
    "lamp3": products.case,
    "lamp4": headlines.case,
    "lamp5": scholarly.case,
    "lamp7": tweets.case,
}
LONG_MAKERS = {"longlamp-review": reviews.case, "lampqa-lifestyle": advice.case}  # too long for the pocket model
ALL_MAKERS = MAKERS | LONG_MAKERS
