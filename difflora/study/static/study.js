// Keys 1 to 5 mark the question that has the focus, or the first without a mark, and go on to the next.
"use strict";
const form = document.querySelector("form");
const questions = [...form.querySelectorAll("fieldset")];
const marked = (question) => question.querySelector("input:checked");

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || !/^[1-5]$/.test(event.key)) return;
  const focus = document.activeElement;
  // Anywhere else the key may mean something else, to a screen reader too.
  if (focus !== document.body && !form.contains(focus)) return;
  const question = questions.find((one) => one.contains(focus)) || questions.find((one) => !marked(one));
  if (!question) return;
  event.preventDefault();
  question.querySelector(`input[value="${event.key}"]`).checked = true;
  const next = questions.slice(questions.indexOf(question) + 1).find((one) => !marked(one));
  (next ? next.querySelector("input") : form.querySelector("button")).focus();
});
