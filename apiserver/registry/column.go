package registry

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

// NameColumn is every kind's first column.
func NameColumn() Column {
	return Column{
		TableColumnDefinition: metav1.TableColumnDefinition{
			Name: "Name", Type: "string", Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"],
		},
		Cell: func(obj Object, _ time.Time) string { return obj.GetName() },
	}
}

// AgeColumn is the time since the object was created.
func AgeColumn() Column {
	return Column{
		TableColumnDefinition: metav1.TableColumnDefinition{
			Name: "Age", Type: "string", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"],
		},
		Cell: func(obj Object, now time.Time) string { return Age(obj.GetCreationTimestamp(), now) },
	}
}

// CreatedColumn is the time at which the object was created, as the kinds have it that Kubernetes prints without columns of their own.
func CreatedColumn() Column {
	c := Text("Created At", metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"], func(obj Object) string {
		return obj.GetCreationTimestamp().UTC().Format(time.RFC3339)
	})
	c.Type = "date"
	return c
}

// Text is a column of strings.
func Text[T Object](name, description string, cell func(T) string) Column {
	return TimedText(name, description, func(obj T, _ time.Time) string { return cell(obj) })
}

// TimedText is a column of strings that depend on the time.
func TimedText[T Object](name, description string, cell func(T, time.Time) string) Column {
	return Column{
		TableColumnDefinition: metav1.TableColumnDefinition{Name: name, Type: "string", Description: description},
		Cell:                  func(obj Object, now time.Time) string { return cell(obj.(T), now) },
	}
}

// Number is a column of integers.
func Number[T Object](name, description string, cell func(T) int64) Column {
	c := Text(name, description, func(obj T) string { return fmt.Sprint(cell(obj)) })
	c.Type = "integer"
	return c
}

// Truth is a column of true and false.
func Truth[T Object](name, description string, cell func(T) bool) Column {
	c := Text(name, description, func(obj T) string { return fmt.Sprint(cell(obj)) })
	c.Type = "boolean"
	return c
}

// NumericText is a column whose type is "string" though its cells are numbers where they can be, as some of Kubernetes' are.
func NumericText[T Object](name, description string, cell func(T) string) Column {
	c := Text(name, description, cell)
	c.JSON = "integer"
	return c
}

// JSONValue is the column of an object as the value that Kubernetes sends in a Table.
func (c *Column) JSONValue(obj Object, now time.Time) any {
	if c.Value != nil {
		return c.Value(obj, now)
	}
	return c.JSONCell(c.Cell(obj, now))
}

// TruthText is a column whose type is "string" though its cells are booleans.
func TruthText[T Object](name, description string, cell func(T) bool) Column {
	c := Truth(name, description, cell)
	c.Type, c.JSON = "string", "boolean"
	return c
}

// JSONCell is a rendered cell as the value that Kubernetes sends in a Table: a number or a boolean if the column says so and the
// text is one.
func (c *Column) JSONCell(text string) any {
	kind := c.JSON
	if kind == "" {
		kind = c.Type
	}
	switch kind {
	case "integer":
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n
		}
	case "boolean":
		// Some of Kubernetes' boolean columns have the words "True" and "False" in them.
		if text == "true" || text == "false" {
			return text == "true"
		}
	}
	return text
}

// Wide returns the column as one that is shown with -o wide only.
func (c Column) Wide() Column {
	c.Priority = 1
	return c
}

// Age renders the time between then and now for people.
func Age(then metav1.Time, now time.Time) string {
	if then.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(now.Sub(then.Time))
}

// LabelsText renders a map of labels as a selector, "<none>" if it is empty.
func LabelsText(labels map[string]string) string {
	if len(labels) == 0 {
		return "<none>"
	}
	pairs := make([]string, 0, len(labels))
	for key, value := range labels {
		pairs = append(pairs, key+"="+value)
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ",")
}

// OrNone is the value or "<none>".
func OrNone(value string) string {
	if value == "" {
		return "<none>"
	}
	return value
}
