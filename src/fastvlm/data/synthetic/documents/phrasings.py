"""How people ask about documents: hand-written phrasings by intent, split for good into training and held-out ones.

One intent a paragraph: its name, then phrasings; those after a line of `~` only judge. Slots are those of the facts;
{doc} is a word for the kind of document. No held-out phrasing begins with the three words of a training phrasing of its
intent.

Longer than 450 lines because it is a list.
"""

from __future__ import annotations

from collections.abc import Mapping

from fastvlm.data.synthetic.phrasing_set import PhrasingSet

_RECEIPT = """
total
What is the total?
How much is the total?
What is the total amount on this {doc}?
What is the total to pay?
What does the {doc} come to?
Give me the total.
total amount?
What is the sum on the {doc}?
How much did everything cost?
What is the final amount?
~
Can you tell me the grand total?
How high is the bill in total?

date
What is the date?
What date is on this {doc}?
When was this {doc} printed?
On which day was this bought?
Give me the date.
date?
What is the date of the {doc}?
Which date is printed here?
When was this?
~
Can you find the date?
Tell me what day it was.

time
What time is on the {doc}?
At what time was this bought?
What is the time?
Which time is printed?
Give me the time of day.
time?
When, at what time, was this printed?
What time was it?
~
Can you see the time?
Tell me the hour and minute.

number
What is the {doc} number?
What is the number of this {doc}?
Which reference number is printed?
What number does the {doc} have?
Give me the number of the {doc}.
receipt number?
What is the reference?
Which number identifies this {doc}?
~
Can you read the receipt's number?
Tell me the reference number.

phone
What is the phone number?
Which phone number is given?
What is the telephone number of the shop?
Give me the phone number.
phone number?
What number can I call?
Which number would I have to call?
What telephone number is printed?
~
How can I reach them by phone?
Tell me the phone number.

address
What is the address?
What is the address of the shop?
Where is the shop?
In which street is the shop?
Give me the address.
address?
Which address is printed on the {doc}?
What street is given?
~
Tell me where they are located.
Can you read the address?

shop
What is the name of the shop?
Which shop is this from?
What is the shop called?
Who issued this {doc}?
Where was this bought?
What store is this {doc} from?
Give me the name of the store.
shop name?
Which company is on the {doc}?
~
Tell me the name of the place.
Can you say which store it is?

num_items
How many different items were bought?
How many lines of goods are on the {doc}?
How many different things were bought?
How many different goods are there?
What is the number of different items?
number of different items?
How many different products are listed?
Count the different items.
~
Can you count the different goods on it?
Tell me how many different products there are.

subtotal
What is the subtotal?
How much is it before tax?
What is the amount without tax?
What is the net amount?
Give me the subtotal.
subtotal?
How much do the items come to before tax?
What is the sum before tax?
~
Can you give the net sum?
Tell me the amount before tax.

tax
How much is the tax?
What is the tax?
How much tax was paid?
What is the amount of tax?
Give me the tax.
tax?
How much VAT is on the {doc}?
What tax is printed?
~
Tell me how much tax there is.
Can you find the tax?

payment
How was it paid?
What was the method of payment?
How did they pay?
Was it paid by card or in cash?
Give me the way of payment.
payment method?
What kind of payment was it?
By which means was it paid?
~
Tell me how they paid.
Can you see how it was paid?

change
How much change was given?
What is the change?
How much money was given back?
How much did they get back?
Give me the change.
change?
What change is printed?
How much was returned?
~
Tell me how much came back.
Can you find the change?

price
How much is {thing}?
What is the price of {thing}?
How much did {thing} cost?
What does {thing} cost?
Give me the price of {thing}.
price of {thing}?
How much was paid for {thing}?
What is the amount for {thing}?
What is printed next to {thing}?
~
Can you tell what {thing} costs?
Tell me the price of {thing}.

quantity
How many {thing} were bought?
What is the quantity of {thing}?
How many {thing} are on the {doc}?
How often was {thing} bought?
Give me the quantity of {thing}.
quantity of {thing}?
What number of {thing} was bought?
How many pieces of {thing} were bought?
~
Tell me how many {thing} there are.
Can you see how many {thing} they took?

costs
Which item costs {value}?
What costs {value}?
Which item is {value}?
What was bought for {value}?
What is listed at {value}?
item for {value}?
Which product has the price {value}?
What can you get for {value}?
~
Tell me what costs {value}.
For {value}, what was bought?

dearest
What is the most expensive item?
Which item costs most?
What cost the most?
Which product has the highest price?
What is the dearest item?
most expensive item?
On what was most spent?
Which of the items is the most expensive?
~
Tell me what was most expensive.
Can you find the item with the highest price?
"""

_FORM = """
title
What is the title?
What is the title of this {doc}?
What is the heading?
What does the heading say?
Give me the title.
title?
How is this {doc} titled?
What does the title say?
~
Tell me the heading.
Can you read the title?

num_fields
How many fields are there?
How many fields does the {doc} have?
How many fields are filled in?
What is the number of fields?
Count the fields.
number of fields?
How many values are given?
How many entries are on the {doc}?
~
Tell me how many fields it has.
Can you count the fields?

value
What is the {key}?
What is written for {key}?
What does it say for {key}?
Give me the {key}.
What is given as {key}?
{key}?
Which {key} is entered?
What was filled in for {key}?
What is the value of {key}?
~
Tell me the {key}.
Can you find the {key}?

key
Which field says {value}?
Which field contains {value}?
What field has the value {value}?
In which field is {value}?
What is {value}?
field with {value}?
Where is {value} entered?
Which entry is {value}?
~
Tell me which field says {value}.
To what field does {value} belong?

ticked
Is {key} ticked?
Is the box {key} ticked?
Is {key} selected?
Is {key} marked?
Has {key} been ticked?
{key} ticked?
Is the box for {key} checked?
Was {key} chosen?
~
Did they tick {key}?
Can you see a mark at {key}?

num_ticked
How many boxes are ticked?
How many boxes are checked?
How many options are selected?
What is the number of ticked boxes?
Count the ticked boxes.
ticked boxes?
How many of the boxes are marked?
How many options were chosen?
~
Tell me how many boxes are ticked.
In how many boxes is a mark?
"""

_TABLE = """
num_rows
How many rows are there below the header?
How many rows of data does the table have?
How many rows of data are in the table?
What is the number of rows below the header?
Count the rows of data.
number of rows of data?
How many lines does the table have below the header?
How many entries are in each column?
~
Tell me how many rows of data it has.
Can you count the rows below the header?

num_columns
How many columns of numbers are there?
How many columns does the table have beside the names?
What is the number of columns with numbers?
Count the columns of numbers.
columns of numbers?
How many columns of values does the table have?
How many values are in each row?
How many columns hold values?
~
Tell me how many columns have numbers.
Can you count the columns of numbers?

cell
What is the {column} of {row}?
What is {column} for {row}?
What value is in row {row}, column {column}?
What is in the column {column} of {row}?
Give me the {column} of {row}.
{row}, {column}?
Which number is at {row} and {column}?
For {row}, what is {column}?
What does the table say for {row} under {column}?
~
Tell me {column} for {row}.
In the row {row}, what stands under {column}?

largest_row
Which row has the highest {column}?
Which has the largest {column}?
What has the highest {column}?
Which entry has the most {column}?
Where is {column} largest?
highest {column}?
Which row has the maximum of {column}?
For which row is {column} highest?
~
Tell me which row leads in {column}.
In what row is {column} at its largest?

smallest_row
Which row has the lowest {column}?
Which has the smallest {column}?
What has the lowest {column}?
Which entry has the least {column}?
Where is {column} smallest?
lowest {column}?
Which row has the minimum of {column}?
For which row is {column} lowest?
~
Tell me which row has the least of {column}.
In what row is {column} at its smallest?

row_of
Which row has {value} in {column}?
Which row has a {column} of {value}?
Whose {column} is {value}?
For which row is {column} {value}?
Where is {column} {value}?
{column} {value}?
Which entry has {column} {value}?
What has a {column} of {value}?
~
Tell me the row with {column} {value}.
In what row is {value} under {column}?
"""

_CHART = """
axis
What is the label of the axis?
What does the label of the axis say?
What is written beside the axis?
What is the unit?
Give me the axis label.
axis label?
Which label does the axis have?
How is the axis labelled?
~
Tell me what the axis is labelled.
Can you read the axis label?

num_bars
How many bars are there?
How many bars are shown?
How many bars does the chart have?
What is the number of bars?
Count the bars.
number of bars?
How many bars do you see?
How many different bars are there?
~
Tell me how many bars it has.
Can you count the bars?

num_categories
How many categories are there?
How many categories are shown?
How many categories does the chart have?
What is the number of categories?
Count the categories.
number of categories?
How many categories do you see?
How many different categories are there?
~
Tell me how many categories it has.
Can you count the categories?

num_points
How many points are there?
How many points does the line have?
How many values does the line connect?
What is the number of points?
Count the points.
number of points?
How many data points are shown?
How many points are on the line?
~
Tell me how many points it has.
Can you count the points?

chart_kind
What kind of chart is this?
Which type of chart is it?
What type of chart is shown?
Is this a bar chart, a line chart or a pie chart?
What sort of chart do you see?
type of chart?
Which kind of chart is this?
How are the values shown?
~
Tell me the type of chart.
Can you name the kind of chart?

bar_value
What is the value of {name}?
How much is {name}?
What is the value for {name}?
How high is {name}?
Give me the value of {name}.
{name}?
Which value does {name} have?
What does the chart show for {name}?
~
Tell me the value of {name}.
Can you read off {name}?

group_value
What is the value of {series} for {name}?
How much is {series} for {name}?
What is {series} in {name}?
How high is {series} at {name}?
Give me the value of {series} for {name}.
{name}, {series}?
Which value does {series} have for {name}?
For {name}, what is {series}?
~
Tell me {series} for {name}.
Can you read off {series} at {name}?

highest
Which is the largest?
Which one has the highest value?
Which has the highest value?
What has the largest value?
Which category is largest?
highest value?
What is the category with the highest value?
Where is the maximum?
~
Tell me which one is the largest.
Can you find the maximum?

lowest
Which is the smallest?
Which one has the lowest value?
Which has the lowest value?
What has the smallest value?
Which category is smallest?
lowest value?
What is the category with the lowest value?
Where is the minimum?
~
Tell me which one is the smallest.
Can you find the minimum?

higher
Is the value of {name} higher than that of {other}?
Is the value of {name} larger than that of {other}?
Does {name} have a higher value than {other}?
Does {name} have more than {other}?
Is there a larger value for {name} than for {other}?
{name}: a higher value than {other}?
Is the number for {name} larger than the one for {other}?
Has {name} a larger value than {other}?
~
Can you say if the value of {name} is higher than that of {other}?
Would you say {name} has a larger value than {other}?

trend
Does the line go up or down?
What is the trend?
Is the trend up or down?
Does it end higher or lower than it starts: up or down?
Which way does the line go?
trend?
In which direction does the line go, up or down?
How does the line develop, up or down?
~
Tell me if the line rises: up or down?
Can you tell the direction of the line, up or down?

num_series
How many series are there?
How many series does the chart have?
How many bars does each group have?
What is the number of series?
Count the series.
number of series?
How many names are in the legend?
How many colours of bars are there?
~
Tell me how many series it has.
Can you count the entries of the legend?
"""

_PAGE = """
num_lines
How many lines are there?
How many lines of text are there?
How many lines does the text have?
What is the number of lines?
Count the lines.
number of lines?
How many lines of text can you find?
How many lines do you see?
~
Tell me how many lines it has.
Can you count the lines?

line
What does the {nth} line say?
What is written in the {nth} line?
Read the {nth} line.
What is in the {nth} line?
Give me the {nth} line.
{nth} line?
What is the {nth} line?
What words are in the {nth} line?
~
Tell me what the {nth} line says.
Can you read the {nth} line?

after
What word follows {word}?
Which word comes after {word}?
What comes after {word}?
What is the next word after {word}?
Which word is right of {word}?
word after {word}?
What follows the word {word}?
Which word stands behind {word}?
~
Tell me the word after {word}.
After {word}, what comes next?

has_word
Is the word {word} in the text?
Does the text contain {word}?
Is {word} written here?
Does the word {word} appear?
Can {word} be found in the text?
{word} in the text?
Is there the word {word}?
Does it say {word} anywhere?
~
Did they write {word} in it?
Would I find {word} in the text?
"""

_LINE = """
num_words
How many words are there?
How many words does the line have?
What is the number of words?
Count the words.
number of words?
How many words do you see?
How many words are written here?
~
Tell me how many words it has.
Can you count the words?

num_digits
How many digits are there?
How many digits does the line have?
What is the number of digits?
Count the digits.
number of digits?
How many digits do you see?
How many digits are written here?
~
Tell me how many digits it has.
Can you count the digits?

last_word
What is the last word?
Which word is the last one?
What word comes last?
Read the last word.
last word?
Which word is at the end?
What is written last?
~
Tell me the last word.
Can you read the last word?
"""

_SIGN = """
says
What does the {doc} say?
What is written on the {doc}?
What does it say?
Read the {doc}.
What is on the {doc}?
text of the {doc}?
Which words are on the {doc}?
What can be read on the {doc}?
~
Tell me what the {doc} says.
Can you read the {doc}?

arrow
In which direction does the arrow point?
Where does the arrow point?
Which way does the arrow point?
What is the direction of the arrow?
Give me the direction of the arrow.
direction of the arrow?
To which side does the arrow point?
Where would the arrow lead me?
~
Tell me where the arrow points.
Can you see which way the arrow goes?

text_color
What is the colour of the text?
What colour is the text?
What colour are the letters?
Which colour do the letters have?
In which colour is it written?
colour of the letters?
What colour is the writing?
Which colour is the text?
~
Tell me the colour of the letters.
Can you name the colour of the text?

sign_color
What is the colour of the sign?
What colour is the sign?
Which colour does the sign have?
What colour is the plate?
Give me the colour of the sign.
colour of the sign?
On which colour is it written?
Which colour is the sign?
~
Tell me the colour of the sign.
Can you name the colour of the plate?
"""

_ANY = """
read
Read the text.
What does it say?
Transcribe the text.
What is written here?
Read this.
Read everything.
What text do you see?
Write down all the text.
~
Can you read it to me?
Tell me all that is written.

kind
What kind of document is this?
What is this?
What type of document is it?
What do you see?
Which kind of document is shown?
kind of document?
What sort of picture is this?
What does the picture show?
~
Tell me what this is.
Can you name the kind of document?

caption
Describe the picture.
Describe this document.
What is in the picture? Describe it.
Give a short description.
Write a caption.
caption?
Describe what you see.
Say in one sentence what this is.
~
Can you describe it?
Tell me about the picture.

statement
True or false: {claim}.
Is this true: {claim}?
Is it right that {claim}?
Check this: {claim}.
Is the statement correct: {claim}?
{claim}, true?
Can it be true that {claim}?
Does the picture show that {claim}?
~
Would you agree that {claim}?
Verify that {claim}.
"""

CLAIMS: Mapping[str, tuple[str, ...]] = {
    "total": ("the total is {answer}", "the {doc} comes to {answer}"),
    "price": ("{thing} costs {answer}", "the price of {thing} is {answer}"),
    "costs": ("the item for {value} is {answer}",),
    "dearest": ("the most expensive item is {answer}",),
    "value": ("the {key} is {answer}", "{key} says {answer}"),
    "key": ("the field with {value} is {answer}",),
    "cell": ("the {column} of {row} is {answer}", "{row} has a {column} of {answer}"),
    "largest_row": ("{answer} has the highest {column}",),
    "smallest_row": ("{answer} has the lowest {column}",),
    "row_of": ("the row with a {column} of {value} is {answer}",),
    "bar_value": ("the value of {name} is {answer}", "{name} is {answer}"),
    "group_value": ("{series} is {answer} for {name}",),
    "highest": ("{answer} has the highest value",),
    "lowest": ("{answer} has the lowest value",),
    "arrow": ("the arrow points {answer}",),
}
"""What facts say as statements."""

KIND_WORDS: Mapping[str, tuple[str, ...]] = {
    "receipt": ("receipt", "bill", "receipt", "slip"),
    "form": ("form", "document", "form", "sheet"),
    "table": ("table",),
    "chart": ("chart", "diagram", "figure"),
    "page": ("page", "text", "document"),
    "sign": ("sign",),
    "line": ("line", "text"),
    "scene": ("picture",),
}
"""What people call a kind of document; the first is what the model calls it."""


def _parsed(text: str) -> dict[str, PhrasingSet]:
    found: dict[str, PhrasingSet] = {}
    for paragraph in text.strip().split("\n\n"):
        intent, *phrasings = paragraph.strip().split("\n")
        border = phrasings.index("~")
        found[intent] = PhrasingSet(train=tuple(phrasings[:border]), held_out=tuple(phrasings[border + 1 :]))
    return found


PHRASINGS: Mapping[str, PhrasingSet] = {
    **_parsed(_RECEIPT), **_parsed(_FORM), **_parsed(_TABLE), **_parsed(_CHART), **_parsed(_PAGE), **_parsed(_SIGN),
    **_parsed(_LINE), **_parsed(_ANY),
}  # fmt: skip
"""Phrasings by intent."""
