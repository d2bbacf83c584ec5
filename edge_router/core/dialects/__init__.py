"""Each provider's dialect, read into one neutral form and written from it.

`neutral` is the form; each `*_request` reads and writes what is asked, each `*_answer` what is answered, whole
and as a stream; `failures` are the envelopes of errors, `stream` and `whole` the relays that carry a target's answer
over. Which of them make a pair is `core.translation`. N readers and N writers, so no pair has code of its own.
"""
