"""Sentences about a woman, and the same about a man: by English usage, and not from the program's rules.

Written for these tests. The rules were corrected on the first hundred; the others were written after that, and three of
their eighty rewritings came out wrong: two of them stand in ``MISSES``, for the third a noun, *luck*, was then listed.
"""

FIRST = """
She lost her keys.|He lost his keys.
They told her the news.|They told him the news.
Her car is red.|His car is red.
The red car is hers.|The red car is his.
I saw her yesterday.|I saw him yesterday.
I saw her brother yesterday.|I saw his sister yesterday.
She hurt herself.|He hurt himself.
We spoke with her about the loan.|We spoke with him about the loan.
Her loan was denied.|His loan was denied.
The bank gave her a loan.|The bank gave him a loan.
The bank approved her loan.|The bank approved his loan.
Give it to her.|Give it to him.
A friend of hers called.|A friend of his called.
Hers was the best essay.|His was the best essay.
She thinks it is hers, but it is not.|He thinks it is his, but it is not.
I asked her to leave.|I asked him to leave.
I asked her mother to leave.|I asked his father to leave.
They fired her because she was late.|They fired him because he was late.
Let her go.|Let him go.
Let her dog go.|Let his dog go.
I heard her singing in the hall.|I heard him singing in the hall.
Her singing is lovely.|His singing is lovely.
They called her back at noon.|They called him back at noon.
Her back hurt all day.|His back hurt all day.
He drove her home.|She drove him home.
Her home is far away.|His home is far away.
I will tell her tomorrow.|I will tell him tomorrow.
I know her well.|I know him well.
We love her very much.|We love him very much.
She did her very best.|He did his very best.
I met her last week.|I met him last week.
In her last year at school she failed.|In his last year at school he failed.
Her recently completed thesis won a prize.|His recently completed thesis won a prize.
I told her quickly.|I told him quickly.
Her early career was slow.|His early career was slow.
The noise made her angry.|The noise made him angry.
She made her bed.|He made his bed.
They paid her $500.|They paid him $500.
She spent her $500.|He spent his $500.
I gave her two books.|I gave him two books.
Her two books sold well.|His two books sold well.
They denied her permission.|They denied him permission.
"Ask her," he said.|"Ask him," she said.
Is this her?|Is this him?
Is this her coat?|Is this his coat?
She and her husband bought a house.|He and his wife bought a house.
The actress told her that the role was hers.|The actor told him that the role was his.
I trust her and respect her.|I trust him and respect him.
I trust her and her colleagues.|I trust him and his colleagues.
The woman in front of her was a policewoman.|The man in front of him was a policeman.
Mrs. Smith sold her business.|Mr. Smith sold his business.
Ms Lee raised her hand.|Mr Lee raised his hand.
Miss Brown forgot her umbrella.|Mr Brown forgot his umbrella.
SHE TOLD US ABOUT HER DAUGHTER.|HE TOLD US ABOUT HIS SON.
She's late and her boss knows it.|He's late and his boss knows it.
It was her who called.|It was him who called.
It was her turn.|It was his turn.
Nobody believed her until the trial.|Nobody believed him until the trial.
Her own lawyer doubted her.|His own lawyer doubted him.
The judge sentenced her for fraud.|The judge sentenced him for fraud.
The judge read her sentence aloud.|The judge read his sentence aloud.
I have never met her or her sister.|I have never met him or his brother.
The nurse asked if the bag was hers or not.|The nurse asked if the bag was his or not.
This is a picture of her.|This is a picture of him.
This is a picture of hers.|This is a picture of his.
This is a picture of her mother-in-law.|This is a picture of his father-in-law.
The waitress brought her tea.|The waiter brought his tea.
Her ex-husband pays maternity costs.|His ex-wife pays paternity costs.
The saleswoman helped her choose.|The salesman helped him choose.
Without her we would lose.|Without him we would lose.
Without her help we would lose.|Without his help we would lose.
I know what her plans are.|I know what his plans are.
They watched her leave the building.|They watched him leave the building.
The queen and her daughters arrived.|The king and his sons arrived.
An actress is a woman.|An actor is a man.
A waitress is not an actress.|A waiter is not an actor.
She is an aunt and a niece.|He is an uncle and a nephew.
The girls' mothers waited.|The boys' fathers waited.
The girl's mother waited.|The boy's father waited.
Her résumé impressed her new boss.|His résumé impressed his new boss.
The board made her chairwoman.|The board made him chairman.
We found her guilty.|We found him guilty.
We found her wallet.|We found his wallet.
She introduced herself to her neighbours.|He introduced himself to his neighbours.
Only her 30-year record saved her.|Only his 30-year record saved him.
She was proud of her work, her family and her town.|He was proud of his work, his family and his town.
Tell her!|Tell him!
Tell her (she is waiting).|Tell him (he is waiting).
Her "friend" lied.|His "friend" lied.
They promoted her twice.|They promoted him twice.
The company owes her more than it owes us.|The company owes him more than it owes us.
Her more recent claims were paid.|His more recent claims were paid.
I sent her there.|I sent him there.
I sat near her at lunch.|I sat near him at lunch.
The car hit her at 30 miles an hour.|The car hit him at 30 miles an hour.
I gave her some advice.|I gave him some advice.
Her every move was watched.|His every move was watched.
She wrote her will.|He wrote his will.
We saw her once.|We saw him once.
They kept her waiting.|They kept him waiting.
The teacher praised her drawing.|The teacher praised his drawing.
"""

LATER = """
The doctor examined her carefully and wrote a note.|The doctor examined him carefully and wrote a note.
Her doctor examined the scan.|His doctor examined the scan.
I remember her laughing at the joke.|I remember him laughing at the joke.
Nothing in her file suggests fraud.|Nothing in his file suggests fraud.
They offered her three jobs.|They offered him three jobs.
She left her three jobs.|He left his three jobs.
The agent told her what to sign.|The agent told him what to sign.
Her what-if scenarios are good.|His what-if scenarios are good.
The letter was addressed to her, not to her employer.|The letter was addressed to him, not to his employer.
Her score is 640 and her income 30k.|His score is 640 and his income 30k.
He asked her about her income.|She asked him about his income.
She has repaid all her debts on time.|He has repaid all his debts on time.
The tenants thanked her profusely for the repairs.|The tenants thanked him profusely for the repairs.
We interviewed her on Monday.|We interviewed him on Monday.
Her Monday interview went well.|His Monday interview went well.
I believe her story.|I believe his story.
I believe her.|I believe him.
The committee found her application incomplete.|The committee found his application incomplete.
They consider her application strong.|They consider his application strong.
The school expelled her after the fight.|The school expelled him after the fight.
Her after-school job pays little.|His after-school job pays little.
Please call her on 555-0100.|Please call him on 555-0100.
Her daughter's teacher likes her.|His son's teacher likes him.
A nun spoke to her landlady.|A monk spoke to his landlord.
The widow kept her late husband's house.|The widower kept his late wife's house.
The heirs are his daughters.|The heirs are her sons.
Ladies, please be seated.|Gentlemen, please be seated.
The maternal grandmother raised her.|The paternal grandfather raised him.
Her wages rose; his did not.|His wages rose; hers did not.
We saw her that day.|We saw him that day.
I wish her luck.|I wish him luck.
Her luck ran out.|His luck ran out.
They let her speak first.|They let him speak first.
She earns more than her colleagues.|He earns more than his colleagues.
People like her pay rent early.|People like him pay rent early.
Everyone around her can see it.|Everyone around him can see it.
They took her for granted.|They took him for granted.
Her taken-for-granted work matters.|His taken-for-granted work matters.
Was the decision hers alone?|Was the decision his alone?
The decision is up to her now.|The decision is up to him now.
"""

MISSES = {
    "A friend of his called.": "A friend of her called.",
    "She left her three jobs.": "He left him three jobs.",
    "People like her pay rent early.": "People like his pay rent early.",
}
"""What comes out wrong: only meaning tells a verb from a noun there, or who left what to whom."""

FORMS = {
    "Mr. Smith sold his business.": "Ms. Smith sold her business.",
    "Mr Brown forgot his umbrella.": "Ms Brown forgot her umbrella.",
}
"""Right, and not the sentence it came from: one title for men stands against three for women."""


def sentences() -> list[tuple[str, str]]:
    """Return pairs: about a woman, about a man."""
    return [tuple(line.split("|")) for line in (FIRST + LATER).split("\n") if line]
