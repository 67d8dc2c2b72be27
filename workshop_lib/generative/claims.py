"""Word lists of the text quality measure: claims that need a proof, and words that every English text has."""

from __future__ import annotations

_DIET = (
    r"organic", r"(?:all[- ])?natural(?:ly)?", r"gluten[- ]free", r"dairy[- ]free", r"lactose[- ]free",
    r"(?:fat|sugar|salt|sodium|calorie|cholesterol)[- ]free",
    r"(?:low|reduced)[- ](?:fat|sugar|salt|sodium|calorie|carb)s?",
    r"low in \w+", r"(?:high|rich) in \w+", r"vegan", r"vegetarian", r"kosher", r"halal", r"non[- ]gmo", r"gmo[- ]free",
    r"health(?:y|ier)", r"nutriti(?:ous|on|onal)", r"nutrients?", r"wholesome", r"proteins?", r"fib(?:er|re)",
    r"vitamins?", r"minerals?", r"antioxidants?", r"calories", r"preservatives?", r"additives?", r"artificial",
    r"whole[- ]grains?", r"unsweetened", r"hypoallergenic",
)  # fmt: skip
_KIND = (
    r"store brand", r"national brand", r"name brand", r"private label", r"frozen", r"canned", r"dried", r"smoked",
    r"raw", r"dairy", r"beef", r"pork", r"bacon", r"sausages?", r"fish",
)  # fmt: skip
_ORIGIN = (
    r"locally", r"local farm(?:s|ers)?", r"farm[- ]fresh", r"fresh(?:ly)?", r"hand[- ]?made", r"hand[- ]?picked",
    r"home[- ]?made", r"artisan(?:al)?", r"imported", r"family[- ]owned", r"made in (?:the )?\w+", r"sourced",
    r"sustainabl[ey]", r"free[- ]range", r"cage[- ]free", r"grass[- ]fed", r"wild[- ]caught", r"fair[- ]trade",
)  # fmt: skip
_PRAISE = (
    r"award(?:s|[- ]winning)?", r"best[- ]?sell(?:er|ers|ing)", r"number one", r"world[- ]famous", r"top[- ]rated",
    r"premium", r"high(?:est)?[- ]quality", r"certified", r"clinically", r"dermatologist\w*", r"recommended by",
    r"trusted by", r"patented", r"limited edition", r"new and improved",
)  # fmt: skip
_OFFER = (
    r"discount(?:s|ed)?", r"on sale", r"free shipping", r"free delivery", r"money[- ]back", r"guarantee[ds]?",
    r"warranty", r"coupons?", r"buy one", r"lowest price", r"half price", r"affordable", r"cheap(?:er|est)?",
)  # fmt: skip
_PACKAGE = (
    r"resealable", r"recycl(?:able|ed)", r"biodegradable", r"eco[- ]friendly", r"environmentally", r"bpa[- ]free",
    r"reusable", r"glass jars?", r"plastic(?: (?:bag|bottle|container)s?)?", r"stainless",
)  # fmt: skip
_INGREDIENTS = (
    r"ingredients?", r"contains? \w+", r"almonds?", r"basil", r"butter", r"caramel",
    r"carrots?", r"cheddar", r"cheese", r"chicken", r"chil[il]i", r"chocolate", r"cinnamon", r"cocoa", r"corn",
    r"cream", r"eggs?", r"flour", r"fruits?", r"garlic", r"ginger", r"herbs?", r"honey", r"lemons?", r"milk",
    r"mushrooms?", r"nuts?", r"oats?", r"olive oil", r"onions?", r"oregano", r"peanuts?", r"peppers?",
    r"potato(?:es)?", r"rice", r"salt", r"soy", r"spices?", r"strawberr(?:y|ies)", r"sugar", r"tomato(?:es)?",
    r"vanilla", r"vegetables?", r"vinegar", r"wheat", r"yeast",
)  # fmt: skip

CLAIMS = (*_DIET, *_KIND, *_ORIGIN, *_PRAISE, *_OFFER, *_PACKAGE, *_INGREDIENTS)
"""Patterns of claims that can be checked and are often made up; longer ones come before what they contain."""

FUNCTION_WORDS = frozenset(
    {
        "a", "about", "all", "also", "an", "and", "any", "are", "as", "at", "be", "been", "but", "by", "can",
        "could", "do", "does", "each", "for", "from", "get", "has", "have", "how", "i", "if", "in", "into",
        "is", "it", "its", "just", "like", "made", "may", "more", "most", "my", "no", "not", "of", "on", "one",
        "only", "or", "our", "out", "over", "so", "some", "such", "than", "that", "the", "their", "them",
        "then", "there", "these", "they", "this", "to", "up", "us", "use", "was", "we", "well", "what", "when",
        "where", "which", "while", "who", "will", "with", "without", "would", "you", "your",
    }
)  # fmt: skip
"""Words that sentences are held together with. They are no part of what a fact says."""
