package broker

import "strings"

// Matches tells whether a subject is covered by a pattern of a subscription.
func Matches(pattern, subject string) bool {
	if prefix, ok := strings.CutSuffix(pattern, ">"); ok {
		return strings.HasPrefix(subject, prefix) && len(subject) > len(prefix)
	}
	return pattern == subject
}

func validPattern(s string) bool {
	return validSubject(strings.TrimSuffix(s, ".>"))
}

func validName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}
