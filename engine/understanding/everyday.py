"""Everyday words of English: what people say about a thing, whom it is for and when; and apart, common nouns.

A catalog need not have them. That it lacks one is no slip of the shopper's, nor a sign that it lacks what is asked
for.
"""

from __future__ import annotations

# fmt: off
_WORDS = """
aunt boss bride ceo client colleague colleagues cousin fiance fiancee groom manager neighbour neighbor uncle
able about absolutely actually afraid after afternoon again age ago ahead all almost alone along already also
alternative alternatives although always amazing anniversary annual another any anybody anyone anything anytime
anyway anywhere asap ask asking autumn available avoid away bachelor back bad badly because become before beginner
beginners being beloved beside besides best better between birthday birthdays bought boy boyfriend boys brand bring
brother brothers busy buy buying calm came can can't cannot care careful casual celebrate celebration cheap cheaper
cheapest check child children choose christmas clean cleaning clever come comes comfortable comfortably coming
common compact complete completely convenient correct could couldn't couple cute dad daddy dads daily daughter
daughters day days decent delivered delivery different difficult diwali do does doesn't doing don't done down
durable during each early easily easter easy efficient eid either elderly else end enjoy enough especially even
evening event ever every everybody everyday everyone everything everywhere exactly excellent expensive extra
extremely face family famous fancy fantastic far fast faster fastest father father's fathers favorite favourite feel
feeling few finally find fine first fit fits fitting friend friendly friends fun funny further gave gentle get gets
getting gift gifting gifts girl girlfriend girls give given gives giving go goes going gone good got gotten
graduation grandfather grandma grandmother grandpa grandparents grandson great greatest grown guest guests guy guys
had half halloween handy happen happy hard has hate having he healthy help helpful helps her here hers herself high
him himself his holi holiday holidays home hope house how however huge husband i'd i'll i'm i've ideal if important
inexpensive instead interested into isn't its itself journey just keep keeping keeps kid kids kind kinda kindly knew
know known ladies lady large last lasting lasts late later latest least leave leaving left less let lets like likely
likes listen little live lives living local long longer look looking looks lot lots love loved lovely lover lovers
loves loving low lower lowest made main mainly make makes making mama man many may maybe me mean means meant men
might mine miss modern mom moment mommy moms money monsoon more morning most mostly mother mother's mothers much
multiple mum mummy mums must my myself name near nearly need needed needing needs never new next nice nicely nicer
night nights no nobody none normal normally not nothing now occasion of off office often ok okay old older oldest
once one ones only opposite option options ordinary other others otherwise ours ourselves outside over overall own
papa parent parents party per perfect perfectly perhaps person personal play playing plays please plenty popular
portable possible possibly premium present presents pretty probably professional proper properly purchase purpose
put puts quality quick quickly quiet quietly quite rainy rakhi rather read ready real really reasonable reasonably
recommend recommended reliable retirement rich right room rooms rough safe safely same save say school season second
see seem seems self sell selling send several shall she short shorter should shouldn't show showing side similar
simple simply since single sister sisters size sized sizes slow slowly small smaller smallest smooth so some
somebody somehow someone something sometimes somewhat somewhere son sons soon sort special spend spouse start
starting starts stay staying stays still stop strong stuff stylish substitute such suggest suggestion suggestions
suitable suits summer super sure surely surprise take takes taking teen teenager teenagers teens terrace than thanks
thanksgiving that's them themselves then there there's therefore they they're thing things think this those though
through till time times tiny to today toddler toddlers together tomorrow tonight towards traditional travel
traveling travelling tried trip try trying two type types typical under unique unless unlike until up upon us use
used useful user users uses using usual usually vacation valentine valentine's valentines various very via wait
waiting walk walking walks want wanted wanting wants warm wasn't way ways we wear wearing wears wedding week weekend
weekends weeks well went were what whatever when whenever where wherever whether which while who whoever whole whom
whose why wife wife's winter wish with within without woman women won't wonderful work working works worst worth
world would wouldn't wrong xmas year years yes yet young younger youngest your yours yourself yourselves
"""
_HINGLISH = "aur hai ka ke ki ko liye mein se wala wale wali"
_NOUNS = """
airport animal animals apple apples art baby babies banana bathroom bathrooms beach bedroom bedrooms bird birds body
book books bread breakfast building bus business cake cakes car cars cartoon cartoons cat cats chicken church cities
city class classes coffee cold colour computer cooking cow cows cricket dance dancing dinner doctor doctors dog dogs
door doors drawing dream dreams drink earth egg eggs eye eyes farm feet film films fire fish fishing flat floor flower
flowers food foot football forest fruit fruits game games garden gardening gym hair hall hand hands head health heart
hobby hospital hotel ice idea ideas indoor outdoor job kitchen kitchens lake land language lawyer lesson letter letters
library life light lunch market meal meals meat meeting meetings memories memory milk mobile mountain mountains mouth
movie movies museum music musician name names nature news number numbers nurse page pages painter painting park people
pet pets photo photographer photographers photography photos picture pictures pilot plant plants police pool product
products project projects rain reader rice river road roads sale salt sea shop shops shower singer sky sleep snow song
songs soup sport sports star stars station store story street student students studies study studying sugar sun
teacher teachers team tennis theatre town towns toy train training trains tree trees university vegetable vegetables
video videos village voice wall walls war water weather wind window windows winner word words worker yard yoga
"""
# fmt: on
#: With the pieces of its contractions, which analysis takes apart.
EVERYDAY = frozenset(piece for word in f"{_WORDS} {_HINGLISH}".split() for piece in (word, *word.split("'")))
#: Words that no speller should take for slips of a catalog's, but that may well name what is asked for.
COMMON = EVERYDAY.union(_NOUNS.split())
_ADVERBS = ("ally", "fully", "ously", "ently", "antly", "ately", "edly", "ingly", "ively")


def is_everyday(word: str, before: str = "") -> bool:
    """Whether ``word``, lower case, names no thing: an everyday word, an adverb, or what somebody does who needs the
    thing (``for trekking``), where ``before`` is the word before it.
    """
    if word in EVERYDAY or word.endswith(_ADVERBS):
        return True
    return before == "for" and len(word) > 5 and word.endswith("ing")
